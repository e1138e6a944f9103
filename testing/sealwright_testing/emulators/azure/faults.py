"""Faults on demand: what a real Key Vault does on a bad day, when a test asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final

from .errors import AzureError

ANY: Final = "*"
"""In `Fault.operation`: every operation."""


class FaultKind(StrEnum):
    """What goes wrong."""

    THROTTLE = "throttle"
    """HTTP 429 with the code Throttled. There is a Retry-After header only with `retry_after`."""
    ERROR = "error"
    """Any `code`, `inner`, `status` and `message`."""
    DENY = "deny"
    """HTTP 403, as for a caller without the permission (ForbiddenByRbac)."""
    CHALLENGE = "challenge"
    """HTTP 401 with the usual challenge, as after a token was withdrawn."""
    CLAIMS = "claims"
    """HTTP 401 with a claims challenge, as in continuous access evaluation."""
    DELAY = "delay"
    """The answer comes `seconds` later. Other faults may follow: this one alone is not a failure."""
    HANG = "hang"
    """No answer at all, until the client leaves or the faults are cleared (then the connection closes)."""
    HTTP_500 = "http_500"
    """HTTP 500 with InternalServerError, or the `code` and `status` that are given."""
    DROP_CONNECTION = "drop_connection"
    """The connection is reset without an answer."""
    MALFORMED_JSON = "malformed_json"
    """The operation takes effect, and half of its answer arrives, under HTTP 200."""
    NOT_YET_VISIBLE = "not_yet_visible"
    """Versions created from now on answer KeyNotFound to reads for `seconds`."""
    CORRUPTED_SIGNATURE = "corrupted_signature"
    """Sign: the last bit is flipped."""
    WRONG_SIGNATURE = "wrong_signature"
    """Sign: the right size and form, made with a fresh key of the same kind."""
    TRUNCATED_SIGNATURE = "truncated_signature"
    """Sign: the last byte is missing."""
    OTHER_KEY = "other_key"
    """Sign and GetKey: a new version of the key answers, under its own kid."""
    OTHER_NAME = "other_name"
    """Sign and GetKey: the key itself answers, but under another kid."""


_FINAL: Final = frozenset(
    {
        FaultKind.THROTTLE,
        FaultKind.ERROR,
        FaultKind.DENY,
        FaultKind.CHALLENGE,
        FaultKind.CLAIMS,
        FaultKind.HANG,
        FaultKind.HTTP_500,
        FaultKind.DROP_CONNECTION,
        FaultKind.MALFORMED_JSON,
    }
)
_TAMPERING: Final[Mapping[FaultKind, frozenset[str]]] = {
    FaultKind.CORRUPTED_SIGNATURE: frozenset({"Sign"}),
    FaultKind.WRONG_SIGNATURE: frozenset({"Sign"}),
    FaultKind.TRUNCATED_SIGNATURE: frozenset({"Sign"}),
    FaultKind.OTHER_KEY: frozenset({"Sign", "GetKey"}),
    FaultKind.OTHER_NAME: frozenset({"Sign", "GetKey"}),
}
_DEFAULTS: Final[Mapping[FaultKind, AzureError]] = {
    FaultKind.THROTTLE: AzureError(
        "Throttled",
        "Request was not processed because too many requests were received.",
        HTTPStatus.TOO_MANY_REQUESTS,
        "VaultRequestTypeLimitReached",
    ),
    FaultKind.HTTP_500: AzureError("InternalServerError", "An error occurred.", HTTPStatus.INTERNAL_SERVER_ERROR),
    FaultKind.ERROR: AzureError("InternalServerError", "A fault that a test asked for."),
    FaultKind.DENY: AzureError(
        "Forbidden", "Caller is not authorized to perform action on resource.", HTTPStatus.FORBIDDEN, "ForbiddenByRbac"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong, whenever a request matches it.

    Attributes:
        kind: What goes wrong.
        operation: For which operation, such as `Sign` or `Token`; `*` for all.
        name: For which key name only.
        times: How often, after which the fault ends by itself; None: until it is cleared.
        seconds: How long, for `delay` and `not_yet_visible`.
        code: The error's `code`, for `error`, `throttle`, `deny` and `http_500`.
        inner: The `code` in its `innererror`.
        status: Its HTTP status.
        message: Its text.
        retry_after: Seconds for its Retry-After header.
        after: The operation takes effect first, and then comes the failure (its answer is lost) or the delay.
    """

    kind: FaultKind
    operation: str = ANY
    name: str | None = None
    times: int | None = None
    seconds: float = 0.0
    code: str | None = None
    inner: str | None = None
    status: int | None = None
    message: str | None = None
    retry_after: float | None = None
    after: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError where the fields do not fit together."""
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
            ValueError: It is not an object, or it has an unknown name or a wrong value.
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
        """Return what `from_json` reads, without the attributes that have no value."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def error(self) -> AzureError:
        """Return the answer of a fault that answers with an error."""
        default = _DEFAULTS[self.kind]
        return AzureError(
            default.code if self.code is None else self.code,
            default.message if self.message is None else self.message,
            default.status if self.status is None else self.status,
            default.inner if self.inner is None and self.code is None else self.inner,
            self.retry_after,
        )


@dataclass(slots=True)
class Plan:
    """What the faults do to one request.

    Attributes:
        delay: Seconds before anything else.
        late: Seconds between effect and answer.
        failure: How it fails; None: it does not.
        tampering: What is done to its answer; None: nothing.
        hidden: Seconds for which the version that it creates is not visible.
    """

    delay: float = 0.0
    late: float = 0.0
    failure: Fault | None = None
    tampering: FaultKind | None = None
    hidden: float = 0.0


@dataclass(slots=True, eq=False)
class _Armed:
    fault: Fault
    left: int | None


@dataclass(slots=True)
class FaultBook:
    """The faults in force, in the order in which they were added."""

    _armed: list[_Armed] = field(default_factory=list)

    def add(self, fault: Fault) -> None:
        """Arm a fault."""
        self._armed.append(_Armed(fault, fault.times))

    def clear(self) -> None:
        """Disarm all."""
        self._armed.clear()

    def active(self) -> tuple[Fault, ...]:
        """Return the faults in force."""
        return tuple(armed.fault for armed in self._armed)

    def to_json(self) -> list[dict[str, Any]]:
        """Return the faults in force, each with the `left` times if it ends by itself."""
        return [
            armed.fault.to_json() | ({} if armed.left is None else {"left": armed.left}) for armed in tuple(self._armed)
        ]

    def take(self, operation: str, name: str | None) -> Plan:
        """Return what happens to a request, and count it against the faults that it used.

        The first failure ends the search, so a delay before it counts and one after it does not.
        """
        plan = Plan()
        for armed in tuple(self._armed):
            if plan.failure is None and _matches(armed.fault, operation, name):
                _apply(armed.fault, plan)
                if armed.left is not None:
                    armed.left -= 1
                    if armed.left <= 0 and armed in self._armed:
                        self._armed.remove(armed)
        return plan


def _matches(fault: Fault, operation: str, name: str | None) -> bool:
    if fault.kind is FaultKind.NOT_YET_VISIBLE:
        return operation in {"CreateKey", "RotateKey"}
    if fault.operation not in {ANY, operation}:
        return False
    if fault.kind in _TAMPERING and operation not in _TAMPERING[fault.kind]:
        return False
    return fault.name is None or (name is not None and fault.name.lower() == name.lower())


def _apply(fault: Fault, plan: Plan) -> None:
    if fault.kind in _FINAL:
        plan.failure = fault
    elif fault.kind is FaultKind.DELAY and fault.after:
        plan.late += fault.seconds
    elif fault.kind is FaultKind.DELAY:
        plan.delay += fault.seconds
    elif fault.kind is FaultKind.NOT_YET_VISIBLE:
        plan.hidden = max(plan.hidden, fault.seconds)
    else:
        plan.tampering = plan.tampering or fault.kind
