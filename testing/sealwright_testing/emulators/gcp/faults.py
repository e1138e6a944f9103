"""Faults on demand: what a real KMS does on a bad day, when a test asks for it."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Final

import grpc

from .errors import KmsError

ANY: Final = "*"
"""In `Fault.operation`: every operation."""


class FaultKind(StrEnum):
    """What goes wrong."""

    THROTTLE = "throttle"
    """RESOURCE_EXHAUSTED."""
    ERROR = "error"
    """Any `code` and `message`."""
    UNAVAILABLE = "unavailable"
    """UNAVAILABLE."""
    DELAY = "delay"
    """The answer arrives `seconds` later. Other faults may follow: this one alone is not a failure."""
    HANG = "hang"
    """No answer, until the client leaves or the faults are cleared (then UNAVAILABLE)."""
    DROP_CONNECTION = "drop_connection"
    """All connections of the emulator close, and it listens again at once."""
    MALFORMED = "malformed"
    """The operation takes effect, and half of its answer arrives."""
    NOT_YET_VISIBLE = "not_yet_visible"
    """Keys created from now on answer NOT_FOUND for `seconds`."""
    PENDING_GENERATION = "pending_generation"
    """Versions created from now on stay PENDING_GENERATION for `seconds`."""
    GENERATION_FAILED = "generation_failed"
    """Versions created from now on are GENERATION_FAILED."""
    WRONG_SIGNATURE = "wrong_signature"
    """Right size and form, made with another new key of the same algorithm."""
    CORRUPTED_SIGNATURE = "corrupted_signature"
    """The last bit is flipped, and the checksum fits."""
    TRUNCATED_SIGNATURE = "truncated_signature"
    """The last byte is missing, and the checksum fits."""
    OTHER_KEY = "other_key"
    """Another key answers, under its own name. GetPublicKey and GetCryptoKeyVersion too."""
    OTHER_NAME = "other_name"
    """The key itself answers, but under another name. GetPublicKey and GetCryptoKeyVersion too."""
    WRONG_CRC = "wrong_crc"
    """The checksum does not fit. GetPublicKey too."""
    NO_CRC = "no_crc"
    """There is no checksum. GetPublicKey too."""
    UNVERIFIED = "unverified"
    """`verified_digest_crc32c` or `verified_data_crc32c` is false."""


_FINAL: Final = frozenset(
    {
        FaultKind.THROTTLE,
        FaultKind.ERROR,
        FaultKind.UNAVAILABLE,
        FaultKind.HANG,
        FaultKind.DROP_CONNECTION,
        FaultKind.MALFORMED,
    },
)
_CREATING: Final = frozenset({FaultKind.NOT_YET_VISIBLE, FaultKind.PENDING_GENERATION, FaultKind.GENERATION_FAILED})
_CREATIONS: Final = frozenset({"CreateCryptoKey", "CreateCryptoKeyVersion"})
_SIGNING: Final = frozenset({"AsymmetricSign", "MacSign"})
_NAMED: Final = _SIGNING | {"GetPublicKey", "GetCryptoKeyVersion"}
_CHECKED: Final = _SIGNING | {"GetPublicKey"}
_TAMPERING: Final = {
    FaultKind.WRONG_SIGNATURE: _SIGNING,
    FaultKind.CORRUPTED_SIGNATURE: _SIGNING,
    FaultKind.TRUNCATED_SIGNATURE: _SIGNING,
    FaultKind.UNVERIFIED: _SIGNING,
    FaultKind.OTHER_KEY: _NAMED,
    FaultKind.OTHER_NAME: _NAMED,
    FaultKind.WRONG_CRC: _CHECKED,
    FaultKind.NO_CRC: _CHECKED,
}
_NEED_SECONDS: Final = frozenset({FaultKind.DELAY, FaultKind.NOT_YET_VISIBLE, FaultKind.PENDING_GENERATION})
_DEFAULTS: Final = {
    FaultKind.THROTTLE: ("RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Cryptographic requests'."),
    FaultKind.UNAVAILABLE: ("UNAVAILABLE", "The service is currently unavailable."),
    FaultKind.ERROR: ("INTERNAL", "A fault that a test asked for."),
    FaultKind.HANG: ("UNAVAILABLE", "The call hung until the faults were cleared."),
    FaultKind.DROP_CONNECTION: ("UNAVAILABLE", "The connection is dropped."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong whenever a request matches it.

    Attributes:
        kind: What goes wrong.
        operation: For which operation, such as `AsymmetricSign`; `*` for all.
        name: For requests about this resource only: the name that routes the request.
        times: How often, after which the fault ends by itself; None for ever.
        seconds: How long, for `delay`, `not_yet_visible` and `pending_generation`.
        code: Name of the gRPC code, for the failures.
        message: Its text.
        violation: `type` of a violation in a PreconditionFailure in it.
        retry_after: Seconds for a RetryInfo in it.
        after: The operation takes effect first, and then comes the failure (its answer is lost) or the delay.
    """

    kind: FaultKind
    operation: str = ANY
    name: str | None = None
    times: int | None = None
    seconds: float = 0.0
    code: str | None = None
    message: str | None = None
    violation: str = ""
    retry_after: float | None = None
    after: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError where the fields make no sense together."""
        if self.times is not None and self.times < 1:
            raise ValueError("times must be at least 1")
        if self.seconds < 0 or (self.kind in _NEED_SECONDS and not self.seconds):
            raise ValueError(f"{self.kind} needs seconds, and they must not be negative")
        if self.code is not None and self.code not in grpc.StatusCode.__members__:
            raise ValueError(f"{self.code!r} is not the name of a gRPC code")

    @classmethod
    def from_json(cls, value: object) -> Fault:
        """Read a fault from a JSON object with the names of the attributes.

        Raises:
            ValueError: It is not an object, has an unknown name, or a value that makes no sense.
        """
        if not isinstance(value, dict):
            raise ValueError("a fault is a JSON object")  # noqa: TRY004 - the caller sees one kind of bad input
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(value) - known):
            raise ValueError(f"unknown: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        try:
            return cls(**{**value, "kind": FaultKind(value.get("kind", ""))})
        except TypeError as error:
            raise ValueError(str(error)) from None

    def to_json(self) -> dict[str, Any]:
        """Return the attributes that have a value."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def error(self) -> KmsError:
        """Return the answer of a fault that is a failure."""
        code, message = _DEFAULTS[self.kind]
        return KmsError(
            grpc.StatusCode[self.code or code],
            self.message or message,
            violation=self.violation,
            retry_after=self.retry_after,
        )


@dataclass(slots=True)
class Plan:
    """What the faults do to one request.

    Attributes:
        delay: Seconds before anything else.
        late: Seconds between effect and answer.
        failure: How it fails, if it does.
        tampering: What is done to its answer.
        hidden_seconds: For how long a key that it creates is not visible.
        pending_seconds: For how long a version that it creates is not generated.
        failed: Whether the generation of that version fails.
    """

    delay: float = 0.0
    late: float = 0.0
    failure: Fault | None = None
    tampering: set[FaultKind] = field(default_factory=set)
    hidden_seconds: float = 0.0
    pending_seconds: float = 0.0
    failed: bool = False


@dataclass(slots=True, eq=False)
class _Armed:
    fault: Fault
    left: int | None


class FaultBook:
    """The faults in force, in the order in which they were added. May be used from any thread."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """Arm a fault."""
        with self._lock:
            self._armed.append(_Armed(fault, fault.times))

    def clear(self) -> None:
        """Disarm all."""
        with self._lock:
            self._armed.clear()

    def active(self) -> tuple[Fault, ...]:
        """Return the faults in force."""
        with self._lock:
            return tuple(armed.fault for armed in self._armed)

    def take(self, operation: str, name: str) -> Plan:
        """Return what happens to a request, and count it against the faults that it used.

        Faults are looked at in order; the first failure ends the search.
        """
        plan = Plan()
        with self._lock:
            for armed in tuple(self._armed):
                if plan.failure is None and _matches(armed.fault, operation, name):
                    _apply(armed.fault, plan)
                    if armed.left is not None:
                        armed.left -= 1
                        if armed.left <= 0:
                            self._armed.remove(armed)
        return plan


def _matches(fault: Fault, operation: str, name: str) -> bool:
    if fault.operation not in {ANY, operation} or fault.name not in {None, name}:
        return False
    if fault.kind in _CREATING:
        return operation in _CREATIONS
    return operation in _TAMPERING.get(fault.kind, {operation})


def _apply(fault: Fault, plan: Plan) -> None:
    """Write a fault into the plan."""
    if fault.kind in _FINAL:
        plan.failure = fault
    elif fault.kind is FaultKind.DELAY and fault.after:
        plan.late += fault.seconds
    elif fault.kind is FaultKind.DELAY:
        plan.delay += fault.seconds
    elif fault.kind is FaultKind.NOT_YET_VISIBLE:
        plan.hidden_seconds = max(plan.hidden_seconds, fault.seconds)
    elif fault.kind is FaultKind.PENDING_GENERATION:
        plan.pending_seconds = max(plan.pending_seconds, fault.seconds)
    elif fault.kind is FaultKind.GENERATION_FAILED:
        plan.failed = True
    else:
        plan.tampering.add(fault.kind)
