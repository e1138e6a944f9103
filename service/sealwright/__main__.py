"""The command `sealwright`."""

from __future__ import annotations

import click

from sealwright import __version__
from sealwright.cli.completion import completion
from sealwright.cli.config import config
from sealwright.cli.db import db
from sealwright.cli.dev import dev
from sealwright.cli.doctor import doctor
from sealwright.cli.keys import keys
from sealwright.cli.program import Program
from sealwright.cli.replicas import replicas
from sealwright.cli.serve import serve, worker
from sealwright.cli.store import store
from sealwright.cli.tokens import jwks, sign, verify


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sealwright")
def main() -> None:
    """Sign JSON Web Tokens with keys that never leave a KMS or an HSM.

    Exit status: 0: success; 1: the service or a check refused; 2: the command line is wrong.
    """


for command in (completion, config, db, dev, doctor, jwks, keys, replicas, serve, sign, store, verify, worker):
    main.add_command(command)

if __name__ == "__main__":
    main()
