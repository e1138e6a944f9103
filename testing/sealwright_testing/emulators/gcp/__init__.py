"""An emulator of Google Cloud KMS: its gRPC API, real keys, checksums, and the rules that Google enforces.

It answers as Google's own contract tests expect (kms-integrations, fakekms/contract), and adds what fakekms does not have:
secp256k1, Ed25519, ML-DSA, formats of public keys, labels, pages, quotas, TLS and bearer tokens.
"""

from .calls import CallRecord
from .emulator import GcpEmulator, VersionSummary
from .errors import KmsError
from .faults import Fault, FaultKind

__all__ = ["CallRecord", "Fault", "FaultKind", "GcpEmulator", "KmsError", "VersionSummary"]
