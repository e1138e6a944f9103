"""An emulator of AWS KMS: its JSON 1.1 protocol, real keys, and the rules that AWS enforces.

It checks what moto and its like let pass: signatures of requests, 4096 bytes for RAW messages, the length of digests,
the salt of PSS, key states, usages and specs, tags, aliases and pages. What AWS does where neither its documentation
nor anybody's report says so is marked in the docstrings as not checked against AWS.
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
