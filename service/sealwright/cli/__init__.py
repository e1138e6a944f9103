"""The command line: one file for each group of commands."""

import os

# Before gRPC is imported, which reads it then. Its core writes to standard error by itself, in its own form, and would stop where
# nobody reads it. Whoever needs the lines can set the variable.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
