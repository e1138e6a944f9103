"""An emulator of Azure Key Vault and Managed HSM: the keys API over HTTPS, real keys, and the rules that Azure enforces.

It authenticates with challenges and tokens of its own endpoints. It checks digest lengths, algorithms and curves, key
attributes and operations, tags and names. It has versions, soft deletion, purge protection and pages. Where neither
Azure's documentation nor public reports say what Azure does, it is not checked: HMAC is computed over the `value` as it
comes, whatever its length.
"""

from .backend import KeySummary
from .calls import CallRecord
from .emulator import AzureEmulator, ThreadedAzureEmulator
from .errors import AzureError
from .faults import Fault, FaultKind
from .specs import KeyType

__all__ = [
    "AzureEmulator",
    "AzureError",
    "CallRecord",
    "Fault",
    "FaultKind",
    "KeySummary",
    "KeyType",
    "ThreadedAzureEmulator",
]
