"""Faults on demand: what a real KMS does on a bad day, when a test asks for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Final

import grpc

from sealwright_testing.emulators.faultbook import ANY, BaseFault, FaultBook

from .errors import KmsError


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
_DEFAULTS: Final = {
    FaultKind.THROTTLE: ("RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Cryptographic requests'."),
    FaultKind.UNAVAILABLE: ("UNAVAILABLE", "The service is currently unavailable."),
    FaultKind.ERROR: ("INTERNAL", "A fault that a test asked for."),
    FaultKind.HANG: ("UNAVAILABLE", "The call hung until the faults were cleared."),
    FaultKind.DROP_CONNECTION: ("UNAVAILABLE", "The connection is dropped."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault(BaseFault):
    """One thing that goes wrong whenever a request matches it.

    Attributes:
        kind: What goes wrong.
        name: The only resource that is affected: the name that routes the request; None: all.
        code: Name of the gRPC code, for the failures.
        violation: `type` of a violation in a PreconditionFailure in it.
        reason: Of its ErrorInfo; None: as Google says for the code.
        request_id: Of a RequestInfo in it; None: there is none, as is usual at Google.
    """

    KINDS: ClassVar = FaultKind
    NEED_SECONDS: ClassVar = frozenset({FaultKind.DELAY, FaultKind.NOT_YET_VISIBLE, FaultKind.PENDING_GENERATION})

    kind: FaultKind
    name: str | None = None
    code: str | None = None
    violation: str = ""
    reason: str | None = None
    request_id: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError if the fields do not fit together."""
        BaseFault.__post_init__(self)
        if self.code is not None and self.code not in grpc.StatusCode.__members__:
            raise ValueError(f"{self.code!r} is not the name of a gRPC code")

    def error(self) -> KmsError:
        """Return the answer of a fault that is a failure."""
        code, message = _DEFAULTS[self.kind]
        return KmsError(
            grpc.StatusCode[self.code or code],
            self.message or message,
            violation=self.violation,
            retry_after=self.retry_after,
            reason=self.reason,
            request_id=self.request_id or "",
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


def plan_for(book: FaultBook[Fault], operation: str, name: str) -> Plan:
    """Return the effects on a request, and count it against the faults that apply.

    Faults are examined in order. The first failure ends the search.
    """
    plan = Plan()
    book.spend(lambda fault: plan.failure is None and _matches(fault, operation, name) and _apply(fault, plan))
    return plan


def _matches(fault: Fault, operation: str, name: str) -> bool:
    if fault.operation not in {ANY, operation} or fault.name not in {None, name}:
        return False
    if fault.kind in _CREATING:
        return operation in _CREATIONS
    return operation in _TAMPERING.get(fault.kind, {operation})


def _apply(fault: Fault, plan: Plan) -> bool:
    """Add a fault to the plan. Return whether it applies."""
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
    return True
