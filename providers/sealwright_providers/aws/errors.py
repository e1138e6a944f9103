"""Maps errors of AWS KMS to ours (API Reference, Sign, "Errors", and "Common Errors").

Their texts name accounts and ARNs, and are dropped.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from sealwright.provider import (
    ProviderAccessDeniedError,
    ProviderError,
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderKeyPendingError,
    ProviderThrottledError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
)


class CredentialsRefusedError(ProviderAccessDeniedError):
    """There are no credentials, or AWS does not recognise them, so that every call would fail."""


class ClockRefusedError(CredentialsRefusedError):
    """AWS finds the time of a request wrong (SigV4 permits five minutes)."""


_THROTTLED: Final = ("AWS KMS limits the rate of requests", ProviderThrottledError)
_DENIED: Final = (
    "AWS KMS denies access to the service's own identity; check its permissions and the key policy",
    ProviderAccessDeniedError,
)
_UNKNOWN: Final = ("AWS refuses the service's credentials", CredentialsRefusedError)
_MISSING: Final = ("the key does not exist in AWS KMS", ProviderKeyMissingError)
_DISABLED: Final = ("the key in AWS KMS is disabled, pending deletion or not ready", ProviderKeyDisabledError)
_UNAVAILABLE: Final = ("AWS KMS reports a failure on its own side", ProviderUnavailableError)
_UNSUPPORTED: Final = ("AWS KMS does not support this operation for the key", ProviderUnsupportedError)

EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException"})
"""The service's own credentials have expired."""

REPLACEABLE: Final = EXPIRED | {"UnrecognizedClientException", "InvalidClientTokenId"}
"""AWS no longer accepts the credentials. The transport looks for others, and if it finds some it repeats the call once."""

_BY_CODE: Final[dict[str, tuple[str, type[ProviderError]]]] = {
    **dict.fromkeys(
        (
            "ThrottlingException",
            "Throttling",
            "ThrottledException",
            "RequestThrottled",
            "RequestThrottledException",
            "RequestLimitExceeded",
            "TooManyRequestsException",
            "LimitExceededException",
        ),
        _THROTTLED,
    ),
    **dict.fromkeys(
        (
            "UnrecognizedClientException",
            "InvalidClientTokenId",
            "InvalidSignatureException",
            "SignatureDoesNotMatch",
            "IncompleteSignature",
            "IncompleteSignatureException",
            "MissingAuthenticationToken",
            "MissingAuthenticationTokenException",
            "RequestExpired",
        ),
        _UNKNOWN,
    ),
    **dict.fromkeys(
        ("AccessDeniedException", "AccessDenied", "NotAuthorizedException", "NotAuthorized", "OptInRequired"), _DENIED
    ),
    **dict.fromkeys(("NotFoundException", "InvalidArnException"), _MISSING),
    "DisabledException": _DISABLED,
    "KMSInvalidStateException": (_DISABLED[0], ProviderKeyPendingError),
    **dict.fromkeys(
        ("InvalidKeyUsageException", "UnsupportedOperationException", "ValidationException", "TagException"),
        _UNSUPPORTED,
    ),
    **dict.fromkeys(
        (*EXPIRED, "KeyUnavailableException", "DependencyTimeoutException", "KMSInternalException"), _UNAVAILABLE
    ),
}

_BY_STATUS: Final[dict[int, tuple[str, type[ProviderError]]]] = {
    HTTPStatus.UNAUTHORIZED: _DENIED,
    HTTPStatus.FORBIDDEN: _DENIED,
    HTTPStatus.TOO_MANY_REQUESTS: _THROTTLED,
}
"""For unknown codes, and for answers of proxies in front of AWS KMS."""


_CLOCK: Final = (
    "AWS refuses requests because of their time: the clock of this machine differs from that of AWS by minutes",
    ClockRefusedError,
)
_TIMELY: Final = frozenset({"RequestExpired", "RequestTimeTooSkewed"})
_UNTIMELY_TEXTS: Final = ("Signature expired", "Signature not yet current")
"""How AWS begins to explain an InvalidSignatureException that is about the time."""
_PLAIN = re.compile(r"[A-Za-z0-9.-]{1,64}")


def to_provider_error(
    code: str, status: int, retry_after: float | None = None, *, text: str = "", request_id: str | None = None
) -> ProviderError:
    """Return our error for an error of AWS KMS.

    Args:
        code: The error's name, without a namespace. It takes precedence, since throttling has HTTP status 400.
        status: HTTP status.
        retry_after: Seconds until a retry, if the answer names them.
        text: What AWS says. It is looked at, and dropped.
        request_id: The ID of the call, for the log.
    """
    message, kind = _BY_CODE.get(code) or _BY_STATUS.get(status, _UNAVAILABLE)
    if code in _TIMELY or text.startswith(_UNTIMELY_TEXTS):
        message, kind = _CLOCK
    error = kind(message, retry_after=retry_after)
    known = code if _PLAIN.fullmatch(code) else f"HTTP status {status}"
    error.detail = f"{known}, request {request_id}" if request_id and _PLAIN.fullmatch(request_id) else known
    return error
