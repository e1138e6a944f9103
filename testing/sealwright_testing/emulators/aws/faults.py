"""Faults on demand: failures of a real KMS, when a test requests them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from .errors import AwsError

if TYPE_CHECKING:
    from collections.abc import Mapping

ANY: Final = "*"
"""In `Fault.operation`: every operation."""


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
class Fault:
    """One fault, which applies to every request that matches it.

    Attributes:
        kind: the kind of fault.
        operation: the operation, such as `Sign`; `*` for all. For `not_yet_visible`: the operation that does not
            see the key.
        key_id: the only key that is affected: an ID or an ARN; `None` for all.
        times: how often it applies before it ends; `None` for ever.
        seconds: the duration, for `delay` and `not_yet_visible`.
        type: the `__type` of the answer, for `error`, `throttle` and `http_500`.
        status: its HTTP status.
        message: its text.
        retry_after: seconds for a Retry-After header in it. AWS KMS itself does not send one.
        after: whether the operation takes effect first, before the failure (so that its answer is lost) or the delay.
    """

    kind: FaultKind
    operation: str = ANY
    key_id: str | None = None
    times: int | None = None
    seconds: float = 0.0
    type: str | None = None
    status: int | None = None
    message: str | None = None
    retry_after: float | None = None
    after: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError if the fields do not fit together."""
        if self.times is not None and self.times < 1:
            raise ValueError("times must be at least 1")
        if self.seconds < 0:
            raise ValueError("seconds must not be negative")
        if self.kind in {FaultKind.DELAY, FaultKind.NOT_YET_VISIBLE} and not self.seconds:
            raise ValueError(f"{self.kind} needs seconds")

    @classmethod
    def from_json(cls, value: object) -> Fault:
        """Read a fault from a JSON object with the names of the attributes.

        Raises:
            ValueError: it is not an object, has an unknown name, or an invalid value.
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
        """Return the JSON that `from_json` reads, without attributes that have no value."""
        return {name: value for name, value in asdict(self).items() if value is not None}

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


@dataclass(slots=True, eq=False)
class _Armed:
    fault: Fault
    left: int | None


@dataclass(slots=True)
class FaultBook:
    """The active faults, in the order in which they were added."""

    _armed: list[_Armed] = field(default_factory=list)

    def add(self, fault: Fault) -> None:
        """Add a fault."""
        self._armed.append(_Armed(fault, fault.times))

    def clear(self) -> None:
        """Remove all faults."""
        self._armed.clear()

    def active(self) -> tuple[Fault, ...]:
        """Return the active faults."""
        return tuple(armed.fault for armed in self._armed)

    def to_json(self) -> list[dict[str, Any]]:
        """Return the active faults, each with the `left` times if it ends by itself."""
        return [
            armed.fault.to_json() | ({} if armed.left is None else {"left": armed.left}) for armed in tuple(self._armed)
        ]

    def take(self, operation: str, key_id: str | None, reference: str | None) -> Plan:
        """Return the effects on a request, and count it against the faults that apply.

        Faults are examined in order. The first failure ends the search, so a delay before it applies and one after
        it does not.

        Args:
            operation: the operation of the request.
            key_id: the ID of the key that its KeyId names, if the key exists.
            reference: its KeyId as received.
        """
        plan = Plan()
        for armed in tuple(self._armed):
            if plan.failure is None and _matches(armed.fault, operation, key_id, reference) and _apply(armed, plan):
                self._spend(armed)
        return plan

    def _spend(self, armed: _Armed) -> None:
        if armed.left is not None:
            armed.left -= 1
            if armed.left <= 0 and armed in self._armed:
                self._armed.remove(armed)


def _matches(fault: Fault, operation: str, key_id: str | None, reference: str | None) -> bool:
    if fault.kind is FaultKind.NOT_YET_VISIBLE:
        return operation == "CreateKey"
    if fault.operation not in {ANY, operation}:
        return False
    if fault.kind in _TAMPERING and operation not in _TAMPERING[fault.kind]:
        return False
    if fault.key_id is None:
        return True
    return fault.key_id == reference or (key_id is not None and fault.key_id.rpartition("/")[2] == key_id)


def _apply(armed: _Armed, plan: Plan) -> bool:
    """Add a fault to the plan. Return whether it applies."""
    fault = armed.fault
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
