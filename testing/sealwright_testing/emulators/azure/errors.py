"""Errors as Key Vault returns them: an HTTP status and `{"error": {"code", "message", "innererror"}}`."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any


class AzureError(Exception):
    """A refusal of the service.

    Attributes:
        code: The error's `code`, such as `KeyNotFound`.
        message: Its text.
        status: The HTTP status.
        inner: The `code` in `innererror`; None: the answer has no `innererror`.
        retry_after: Seconds for a Retry-After header; None: the answer has none.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        status: int = HTTPStatus.BAD_REQUEST,
        inner: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.status = int(status)
        self.inner = inner
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        """Return the JSON of the answer."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.inner is not None:
            error["innererror"] = {"code": self.inner}
        return {"error": error}


def bad_parameter(message: str) -> AzureError:
    """Return the refusal of a request that is not valid for the key or the operation."""
    return AzureError("BadParameter", message)


def not_found(name: str) -> AzureError:
    """Return the refusal of a key that does not exist, or that is soft-deleted."""
    return AzureError(
        "KeyNotFound",
        f"A key with (name/id) {name} was not found in this key vault. If you recently deleted this key you may be "
        "able to recover it using the correct recovery command.",
        HTTPStatus.NOT_FOUND,
    )


def forbidden(message: str, inner: str) -> AzureError:
    """Return the refusal of an operation: the key's attributes or the caller's permissions do not allow it."""
    return AzureError("Forbidden", message, HTTPStatus.FORBIDDEN, inner)


def conflict(message: str, inner: str) -> AzureError:
    """Return the refusal of a name that a soft-deleted key holds."""
    return AzureError("Conflict", message, HTTPStatus.CONFLICT, inner)
