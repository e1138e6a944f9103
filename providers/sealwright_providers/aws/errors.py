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

_THROTTLED: Final = ("AWS KMS asks for fewer requests", ProviderThrottledError)
_DENIED: Final = ("AWS KMS refuses the service's own identity", ProviderAccessDeniedError)
_MISSING: Final = ("AWS KMS knows no such key", ProviderKeyMissingError)
_DISABLED: Final = ("the key in AWS KMS is disabled, pending deletion or not ready", ProviderKeyDisabledError)
_UNAVAILABLE: Final = ("AWS KMS does not work now", ProviderUnavailableError)
_UNSUPPORTED: Final = ("AWS KMS does not do that with this key", ProviderUnsupportedError)

EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException"})
"""The service's own credentials have run out: they are fetched anew, once."""

_BY_CODE: Final[dict[str, tuple[str, type[ProviderError]]]] = {
    **dict.fromkeys(
        ("ThrottlingException", "Throttling", "TooManyRequestsException", "LimitExceededException"), _THROTTLED
    ),
    **dict.fromkeys(
        (
            "AccessDeniedException",
            "AccessDenied",
            "UnrecognizedClientException",
            "InvalidClientTokenId",
            "InvalidSignatureException",
            "SignatureDoesNotMatch",
            "IncompleteSignature",
            "IncompleteSignatureException",
            "MissingAuthenticationToken",
            "MissingAuthenticationTokenException",
            "OptInRequired",
        ),
        _DENIED,
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


def to_provider_error(code: str, status: int, retry_after: float | None = None) -> ProviderError:
    """Return our error for one of AWS KMS.

    Args:
        code: The `__type`, without its namespace. Throttling has HTTP status 400, so the code goes first.
        status: HTTP status.
        retry_after: Seconds, where the answer names them.
    """
    known = _BY_CODE.get(code)
    if known is None:
        known = _THROTTLED if status == HTTPStatus.TOO_MANY_REQUESTS else _UNAVAILABLE
    message, kind = known
    return kind(message, retry_after=retry_after)
