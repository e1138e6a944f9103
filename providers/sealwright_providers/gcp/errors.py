"""Maps gRPC errors of Google Cloud KMS to ours (AIP-193, and Cloud KMS, "Error messages").

Their texts name projects and keys, and are dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, TypeVar

from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2  # type: ignore[import-untyped]

from sealwright.provider import (
    ProviderAccessDeniedError,
    ProviderError,
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderKeyPendingError,
    ProviderThrottledError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
)

M = TypeVar("M", bound=Message)


class CredentialsRefusedError(ProviderAccessDeniedError):
    """There are no valid credentials, or Google does not recognise them, so that every call would fail."""


class KeyExistsError(ProviderUnsupportedError):
    """A CryptoKey of that name exists."""


class KeyPendingError(ProviderKeyPendingError):
    """Cloud KMS is still generating the key."""


_PENDING: Final = "KEY_PENDING_GENERATION"
"""The `type` of a violation in PreconditionFailure."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What the log may show of an answer: codes and IDs, never texts."""

_UNAVAILABLE: Final = (
    "Google Cloud KMS cannot be reached, or reports a failure on its own side",
    ProviderUnavailableError,
)
_UNSUPPORTED: Final = ("Google Cloud KMS does not support this operation for the key", ProviderUnsupportedError)

_BY_CODE: Final[dict[int, tuple[str, type[ProviderError]]]] = {
    code_pb2.RESOURCE_EXHAUSTED: ("Google Cloud KMS limits the rate of requests", ProviderThrottledError),
    code_pb2.DEADLINE_EXCEEDED: ("Google Cloud KMS did not answer before the deadline", ProviderTimeoutError),
    code_pb2.PERMISSION_DENIED: (
        "Google Cloud KMS denies access to the service's own identity; check its role on the key ring, and the project's API",
        ProviderAccessDeniedError,
    ),
    code_pb2.UNAUTHENTICATED: ("Google refuses the service's credentials", CredentialsRefusedError),
    code_pb2.NOT_FOUND: (
        "the key or its key ring does not exist in Google Cloud KMS",
        ProviderKeyMissingError,
    ),
    code_pb2.FAILED_PRECONDITION: (
        "the key in Google Cloud KMS is disabled, scheduled for destruction, destroyed or not ready",
        ProviderKeyDisabledError,
    ),
    code_pb2.ALREADY_EXISTS: ("a key of that name exists in Google Cloud KMS", KeyExistsError),
    code_pb2.INVALID_ARGUMENT: _UNSUPPORTED,
    code_pb2.OUT_OF_RANGE: _UNSUPPORTED,
    code_pb2.UNIMPLEMENTED: _UNSUPPORTED,
}
"""All other codes are outages: UNAVAILABLE, INTERNAL, UNKNOWN, ABORTED, DATA_LOSS, CANCELLED."""


def to_provider_error(code: int, details: bytes) -> ProviderError:
    """Return our error for an error of a call to Google Cloud KMS.

    Args:
        code: A google.rpc.Code.
        details: A serialised google.rpc.Status; empty: there are none.
    """
    message, kind = _BY_CODE.get(code, _UNAVAILABLE)
    ours: ProviderError
    if kind is ProviderKeyDisabledError and _is_pending(details):
        ours = KeyPendingError("Google Cloud KMS is still generating the key")
    else:
        ours = kind(message, retry_after=_retry_after(details))
    ours.detail = _for_the_log(_name(code), details)
    return ours


def _name(code: int) -> str:
    return str(code_pb2.Code.Name(code)) if code in code_pb2.Code.values() else str(code)


def _for_the_log(code: str, details: bytes) -> str:
    """Return what the log may say: the code, why (ErrorInfo), and the ID of the call (RequestInfo), where the answer has them.

    Google promises no ID for calls over gRPC; its audit log names the caller and the time.
    """
    reasons = [i.reason for i in _unpacked(details, error_details_pb2.ErrorInfo)]
    requests = [f"request {i.request_id}" for i in _unpacked(details, error_details_pb2.RequestInfo) if i.request_id]
    known = [code, *reasons[:1], *requests[:1]]
    return ", ".join(text for text in known if _PLAIN.fullmatch(text.removeprefix("request ")))


def _is_pending(details: bytes) -> bool:
    failures = _unpacked(details, error_details_pb2.PreconditionFailure)
    return any(v.type == _PENDING for failure in failures for v in failure.violations)


def _retry_after(details: bytes) -> float | None:
    """Return the seconds until a retry, if the error has a RetryInfo."""
    for info in _unpacked(details, error_details_pb2.RetryInfo):
        return float(info.retry_delay.ToNanoseconds() / 1e9)
    return None


def _unpacked(details: bytes, kind: Any) -> Iterator[Any]:
    """Yield the details of that kind from a serialised google.rpc.Status."""
    if not details:
        return
    try:
        for detail in status_pb2.Status.FromString(details).details:
            if detail.Is(kind.DESCRIPTOR):
                message = kind()
                detail.Unpack(message)
                yield message
    except DecodeError:
        return
