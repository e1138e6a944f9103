"""Errors of AWS KMS as ours (API Reference, Sign, "Errors", and "Common Errors").

Their texts name accounts and ARNs and are dropped.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from sealwright.errors import (
    ProviderAccessDeniedError,
    ProviderError,
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderThrottledError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
)


class CredentialsRefusedError(ProviderAccessDeniedError):
    """There are no credentials, or AWS does not take them for anybody's: nothing at all can be done with them."""


_THROTTLED: Final = ("AWS KMS asks for fewer requests", ProviderThrottledError)
_DENIED: Final = ("AWS KMS refuses the service's own identity", ProviderAccessDeniedError)
_UNKNOWN: Final = ("AWS does not take the service's credentials", CredentialsRefusedError)
_MISSING: Final = ("AWS KMS knows no such key", ProviderKeyMissingError)
_DISABLED: Final = ("the key in AWS KMS is disabled, pending deletion or not ready", ProviderKeyDisabledError)
_UNAVAILABLE: Final = ("AWS KMS does not work now", ProviderUnavailableError)
_UNSUPPORTED: Final = ("AWS KMS does not do that with this key", ProviderUnsupportedError)

EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException"})
"""The service's own credentials have run out."""

REPLACEABLE: Final = EXPIRED | {"UnrecognizedClientException", "InvalidClientTokenId"}
"""AWS does not take the credentials any more: others are looked for, and the call is made once more if there are."""

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
    **dict.fromkeys(("DisabledException", "KMSInvalidStateException"), _DISABLED),
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
"""For codes that are not known, and for what stands before AWS KMS."""


def to_provider_error(code: str, status: int, retry_after: float | None = None) -> ProviderError:
    """Return our error for one of AWS KMS.

    Args:
        code: The error's name alone. Throttling has HTTP status 400, so the code goes first.
        status: HTTP status.
        retry_after: Seconds, where the answer names them.
    """
    message, kind = _BY_CODE.get(code) or _BY_STATUS.get(status, _UNAVAILABLE)
    return kind(message, retry_after=retry_after)
