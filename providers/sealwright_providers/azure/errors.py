"""Maps errors of Key Vault to ours (Key Vault REST reference, "Authentication, requests and responses", and its error codes).

Their texts name vaults, tenants and applications, and are dropped.
"""

from __future__ import annotations

import json
import re
import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final, NamedTuple

from sealwright.provider import (
    ProviderAccessDeniedError,
    ProviderError,
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderThrottledError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
)


class CredentialsRefusedError(ProviderAccessDeniedError):
    """There are no credentials, or Azure does not accept them, so that every call would fail."""


DISABLED: Final = "the key in Key Vault is disabled, expired or not valid yet"
DELETED: Final = "the key in Key Vault is deleted; it can be recovered until it is purged"
MISSING: Final = "the key does not exist in Key Vault"

_ERRORS: Final[dict[int, tuple[str, type[ProviderError]]]] = {
    HTTPStatus.BAD_REQUEST: ("Key Vault does not support this request for the key", ProviderUnsupportedError),
    HTTPStatus.UNAUTHORIZED: ("Key Vault refuses the service's token", CredentialsRefusedError),
    HTTPStatus.FORBIDDEN: (
        "Key Vault denies access to the service's own identity; check its roles, access policy and the vault's firewall",
        ProviderAccessDeniedError,
    ),
    HTTPStatus.NOT_FOUND: (MISSING, ProviderKeyMissingError),
    HTTPStatus.TOO_MANY_REQUESTS: ("Key Vault limits the rate of requests", ProviderThrottledError),
}
_UNAVAILABLE: Final = ("Key Vault reports a failure on its own side", ProviderUnavailableError)

_KEY_STATES: Final = frozenset({"KeyDisabled", "KeyNotYetValid", "KeyExpired"})
_KEY_STATE_TEXT: Final = re.compile(r"not allowed on an? .*(disabled|expired|not yet valid)|(disabled|expired) key")
"""Backup where the answer has no `innererror`: the code is `Forbidden` then, for denied access too."""
_DELETED_STATES: Final = frozenset({"ObjectIsDeletedButRecoverable", "ObjectIsBeingDeleted"})
_LONGEST_WAIT: Final = 3600.0
_PLAIN: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What the log may show of an answer: codes and IDs, never texts."""


class Failure(NamedTuple):
    """An error of Key Vault.

    Attributes:
        code: The error's `code`.
        inner: The `code` in `innererror`.
        message: Its text: only to tell errors apart, never to be passed on.
    """

    code: str
    inner: str
    message: str


def read_failure(body: bytes) -> Failure:
    """Read the body of an answer that is not a success, which may come from something in front of Key Vault."""
    try:
        error = json.loads(body)["error"]
        inner = error.get("innererror") or {}
        return Failure(str(error.get("code", "")), str(inner.get("code", "")), str(error.get("message", "")))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Failure("", "", "")


def to_provider_error(
    status: int, failure: Failure, retry_after: float | None = None, request_id: str | None = None
) -> ProviderError:
    """Return our error for an error of Key Vault.

    Args:
        status: HTTP status.
        failure: What the body says.
        retry_after: Seconds until a retry, if the answer names them.
        request_id: The ID of the request, for the log.
    """
    error = _error(status, failure, retry_after)
    known = [f"HTTP status {status}", *(c for c in (failure.code, failure.inner) if _PLAIN.fullmatch(c))]
    if request_id and _PLAIN.fullmatch(request_id):
        known.append(f"request {request_id}")
    error.detail = ", ".join(dict.fromkeys(known))
    return error


def _error(status: int, failure: Failure, retry_after: float | None) -> ProviderError:
    codes = {failure.code, failure.inner}
    if status == HTTPStatus.FORBIDDEN:
        if codes & _KEY_STATES or _KEY_STATE_TEXT.search(failure.message.lower()):
            return ProviderKeyDisabledError(DISABLED)
        if "KeyOperationForbidden" in codes or "not permitted on this key" in failure.message:
            return ProviderUnsupportedError("the key in Key Vault is not for signing")
    if status == HTTPStatus.CONFLICT and (codes & _DELETED_STATES or "deleted" in failure.message):
        return ProviderKeyDisabledError(DELETED)
    message, kind = _ERRORS.get(status, _UNAVAILABLE)
    # Only these two are over by themselves.
    waits = kind in {ProviderThrottledError, ProviderUnavailableError}
    return kind(message, retry_after=retry_after if waits else None)


def seconds_of(header: str | None) -> float | None:
    """Return the seconds of a Retry-After header, which has a number or a date; None: there is none, or it is not valid."""
    if not header:
        return None
    if header.isascii() and header.isdigit():
        return min(float(header), _LONGEST_WAIT)
    try:
        return min(max(0.0, parsedate_to_datetime(header).timestamp() - time.time()), _LONGEST_WAIT)
    except (ValueError, TypeError, OverflowError):
        return None
