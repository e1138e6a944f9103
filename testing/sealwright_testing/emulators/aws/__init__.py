"""An emulator of AWS KMS: its JSON 1.1 protocol, real keys, and the rules that AWS enforces.

It checks what moto and similar emulators do not: signatures of requests, 4096 bytes for RAW messages, the length of digests,
the salt of PSS, key states, usages and specs, tags, aliases and pages. Where neither the documentation of AWS nor a report
says what AWS does, the docstrings say that it was not checked against AWS.
"""

from .calls import CallRecord
from .emulator import AwsEmulator, ThreadedAwsEmulator
from .errors import AwsError
from .faults import Fault, FaultKind
from .keys import KeySummary
from .sigv4 import Credential
from .specs import KeySpec, KeyState, KeyUsage, MacAlgorithm, MessageType, SigningAlgorithm

__all__ = [
    "AwsEmulator",
    "AwsError",
    "CallRecord",
    "Credential",
    "Fault",
    "FaultKind",
    "KeySpec",
    "KeyState",
    "KeySummary",
    "KeyUsage",
    "MacAlgorithm",
    "MessageType",
    "SigningAlgorithm",
    "ThreadedAwsEmulator",
]
