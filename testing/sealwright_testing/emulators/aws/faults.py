"""Faults on demand: failures of a real KMS, when a test requests them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar, Final

from sealwright_testing.emulators.faultbook import ANY, BaseFault, FaultBook

from .calls import CallRecord
from .errors import AwsError

if TYPE_CHECKING:
    from collections.abc import Mapping


class FaultKind(StrEnum):
    """What goes wrong."""

    THROTTLE = "throttle"
    """HTTP 400 with ThrottlingException, which is how AWS KMS throttles."""
    ERROR = "error"
    """Any `type`, `status` and `message`."""
    DELAY = "delay"
    """The answer comes `seconds` later. Other faults may apply too, since a delay is not a failure."""
    HANG = "hang"
    """No answer at all, until the client leaves or the faults are cleared (then the connection closes)."""
    HTTP_500 = "http_500"
    """HTTP 500 with KMSInternalException, or with the given `type` and `status`."""
    DROP_CONNECTION = "drop_connection"
    """The connection is reset without an answer."""
    MALFORMED_JSON = "malformed_json"
    """The operation takes effect, and half of its answer arrives, under HTTP 200."""
    NOT_YET_VISIBLE = "not_yet_visible"
    """Keys created from now on answer NotFoundException for `seconds`: AWS KMS is eventually consistent."""
    WRONG_SIGNATURE = "wrong_signature"
    """Sign and GenerateMac: the right size and form, but made with a new key of the same spec."""
    TRUNCATED_SIGNATURE = "truncated_signature"
    """Sign and GenerateMac: the last byte is missing."""
    OTHER_KEY = "other_key"
    """Sign, GenerateMac and GetPublicKey: another key answers, under its own ARN."""
    OTHER_NAME = "other_name"
    """Sign and GenerateMac: the key itself answers, but under another ARN."""


_FINAL: Final = frozenset(
    {
        FaultKind.THROTTLE,
        FaultKind.ERROR,
        FaultKind.HANG,
        FaultKind.HTTP_500,
        FaultKind.DROP_CONNECTION,
        FaultKind.MALFORMED_JSON,
    },
)
_TAMPERING: Final[Mapping[FaultKind, frozenset[str]]] = {
    FaultKind.WRONG_SIGNATURE: frozenset({"Sign", "GenerateMac"}),
    FaultKind.TRUNCATED_SIGNATURE: frozenset({"Sign", "GenerateMac"}),
    FaultKind.OTHER_KEY: frozenset({"Sign", "GenerateMac", "GetPublicKey"}),
    FaultKind.OTHER_NAME: frozenset({"Sign", "GenerateMac"}),
}
_DEFAULTS: Final[Mapping[FaultKind, AwsError]] = {
    FaultKind.THROTTLE: AwsError(
        "ThrottlingException",
        "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.",
    ),
    FaultKind.HTTP_500: AwsError(
        "KMSInternalException", "An internal error occurred.", HTTPStatus.INTERNAL_SERVER_ERROR
    ),
    FaultKind.ERROR: AwsError("KMSInternalException", "A fault that a test asked for."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault(BaseFault):
    """One fault, which applies to every request that matches it.

    Attributes:
        kind: the kind of fault.
        key_id: the only key that is affected: an ID or an ARN; `None` for all.
        type: the `__type` of the answer, for `error`, `throttle` and `http_500`.
        status: its HTTP status.
    """

    KINDS: ClassVar = FaultKind
    NEED_SECONDS: ClassVar = frozenset({FaultKind.DELAY, FaultKind.NOT_YET_VISIBLE})

    kind: FaultKind
    key_id: str | None = None
    type: str | None = None
    status: int | None = None

    def error(self) -> AwsError:
        """Return the error with which the fault answers."""
        default = _DEFAULTS[self.kind]
        return AwsError(
            default.type if self.type is None else self.type,
            default.message if self.message is None else self.message,
            default.status if self.status is None else self.status,
            self.retry_after,
        )


@dataclass(slots=True)
class Plan:
    """The effects of the faults on one request.

    Attributes:
        delay: seconds before anything else.
        late: seconds between effect and answer.
        failure: the fault that makes it fail, if any.
        tampering: the change to its signature, if any.
        hide: the fault that hides the key that it creates, if any.
    """

    delay: float = 0.0
    late: float = 0.0
    failure: Fault | None = None
    tampering: FaultKind | None = None
    hide: Fault | None = None


def plan_for(book: FaultBook[Fault], request: CallRecord) -> Plan:
    """Return the effects on a request, and count it against the faults that apply.

    Faults are examined in order. The first failure ends the search, so a delay before it applies and one after it does not.
    """
    plan = Plan()
    book.spend(lambda fault: plan.failure is None and _matches(fault, request) and _apply(fault, plan))
    return plan


def _matches(fault: Fault, request: CallRecord) -> bool:
    operation, key_id = request.operation, request.key_id
    if fault.kind is FaultKind.NOT_YET_VISIBLE:  # its `operation` is the one that does not see the key
        return operation == "CreateKey"
    if fault.operation not in {ANY, operation}:
        return False
    if fault.kind in _TAMPERING and operation not in _TAMPERING[fault.kind]:
        return False
    if fault.key_id is None:
        return True
    return fault.key_id == request.reference or (key_id is not None and fault.key_id.rpartition("/")[2] == key_id)


def _apply(fault: Fault, plan: Plan) -> bool:
    """Add a fault to the plan. Return whether it applies."""
    if fault.kind in _FINAL:
        plan.failure = fault
    elif fault.kind is FaultKind.DELAY and fault.after:
        plan.late += fault.seconds
    elif fault.kind is FaultKind.DELAY:
        plan.delay += fault.seconds
    elif fault.kind is FaultKind.NOT_YET_VISIBLE:
        if plan.hide is not None:
            return False
        plan.hide = fault
    elif plan.tampering is None:
        plan.tampering = fault.kind
    else:
        return False
    return True
