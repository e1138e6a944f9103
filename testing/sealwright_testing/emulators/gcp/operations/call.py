"""What an operation gets, and what the operations share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import google_crc32c

from sealwright_testing.emulators.gcp.errors import invalid, precondition
from sealwright_testing.emulators.gcp.faults import FaultKind, Plan
from sealwright_testing.emulators.gcp.specs import SPECS
from sealwright_testing.emulators.gcp.store import KeyStore, Version

STRANGER: Final = "projects/stranger/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"
"""Name of the key that answers in place of another."""


class Strangers:
    """Key material that no key of the store has: one for each algorithm, since RSA keys take a second to make."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}
        self._lock = threading.Lock()

    def of(self, algorithm: str) -> Any:
        """Return the material for an algorithm."""
        with self._lock:
            if algorithm not in self._made:
                self._made[algorithm] = SPECS[algorithm].generate()
            return self._made[algorithm]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request.

    Attributes:
        request: The protobuf message.
        store: The store.
        plan: What the faults do to it.
        strangers: Key material that answers in place of the key's own.
    """

    request: Any
    store: KeyStore
    plan: Plan
    strangers: Strangers

    def has(self, kind: FaultKind) -> bool:
        """Tell whether the answer is tampered with in that way."""
        return kind in self.plan.tampering

    def name_for(self, name: str) -> str:
        """Return the name to answer under."""
        return STRANGER if self.has(FaultKind.OTHER_KEY) or self.has(FaultKind.OTHER_NAME) else name

    def material_of(self, version: Version) -> Any:
        """Return the key material to answer with."""
        if self.has(FaultKind.OTHER_KEY) or self.has(FaultKind.WRONG_SIGNATURE):
            return self.strangers.of(version.algorithm)
        return version.material

    def crc_of(self, value: bytes) -> dict[str, int] | None:
        """Return the Int64Value to answer with for the checksum of a value."""
        if self.has(FaultKind.NO_CRC):
            return None
        return {"value": crc32c(value) ^ (1 if self.has(FaultKind.WRONG_CRC) else 0)}


@dataclass(frozen=True, slots=True)
class Method:
    """An operation.

    Attributes:
        request: The protobuf class of its request.
        handler: Answers it, or raises KmsError.
        field: Path of the field that names the resource.
        quota: Which quota it counts against: `read`, `write` or `crypto` (Cloud KMS, "Quotas").
    """

    request: Any
    handler: Callable[[Call], Any]
    field: str
    quota: str

    def name(self, request: Any) -> str:
        """Return the name of the resource that a request is about."""
        value = request
        for part in self.field.split("."):
            value = getattr(value, part)
        return str(value)


def crc32c(value: bytes) -> int:
    """Return the CRC32C of bytes."""
    return int(google_crc32c.value(value))


def require_enabled(version: Version, now: float) -> None:
    """Go on only if a version is enabled.

    Raises:
        KmsError: FAILED_PRECONDITION.
    """
    state = version.state(now)
    if state != "ENABLED":
        violation = "KEY_PENDING_GENERATION" if state == "PENDING_GENERATION" else ""
        raise precondition(f"{version.name} is not enabled, current state is: {state}.", violation)


def check_crc(message: Any, field: str, value: bytes) -> bool:
    """Check the checksum of a request, and return whether it has one.

    Raises:
        KmsError: INVALID_ARGUMENT.
    """
    if not message.HasField(field):
        return False
    if getattr(message, field).value != crc32c(value):
        raise invalid(f"The checksum in {field} did not match the data.")
    return True
