"""Faults on demand: what a real Key Vault does on a bad day, when a test asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import ClassVar, Final

from sealwright_testing.emulators.faultbook import ANY, BaseFault, FaultBook

from .errors import AzureError


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
class Fault(BaseFault):
    """One thing that goes wrong, whenever a request matches it.

    Attributes:
        kind: What goes wrong.
        name: The only key that is affected; None: all.
        code: The error's `code`, for `error`, `throttle`, `deny` and `http_500`.
        inner: The `code` in its `innererror`.
        status: Its HTTP status.
    """

    KINDS: ClassVar = FaultKind
    NEED_SECONDS: ClassVar = frozenset({FaultKind.DELAY, FaultKind.NOT_YET_VISIBLE})

    kind: FaultKind
    name: str | None = None
    code: str | None = None
    inner: str | None = None
    status: int | None = None

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


def plan_for(book: FaultBook[Fault], operation: str, name: str | None) -> Plan:
    """Return the effects on a request, and count it against the faults that apply.

    The first failure ends the search, so a delay before it counts and one after it does not.
    """
    plan = Plan()
    book.spend(lambda fault: plan.failure is None and _matches(fault, operation, name) and _apply(fault, plan))
    return plan


def _matches(fault: Fault, operation: str, name: str | None) -> bool:
    if fault.kind is FaultKind.NOT_YET_VISIBLE:
        return operation in {"CreateKey", "RotateKey"}
    if fault.operation not in {ANY, operation}:
        return False
    if fault.kind in _TAMPERING and operation not in _TAMPERING[fault.kind]:
        return False
    return fault.name is None or (name is not None and fault.name.lower() == name.lower())


def _apply(fault: Fault, plan: Plan) -> bool:
    """Add a fault to the plan. Return whether it applies."""
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
    return True
