"""Resource names (AIP-122)."""

from __future__ import annotations

import re
from typing import Final

from sealwright.errors import RequestInvalidError, Violation

_ISSUER: Final = re.compile(r"issuers/([^/]{1,63})")
_KEY: Final = re.compile(r"issuers/([^/]{1,63})/keys/([A-Za-z0-9_-]{1,64})")


def issuer_name(issuer: str) -> str:
    """Return the resource name of an issuer."""
    return f"issuers/{issuer}"


def key_name(issuer: str, kid: str) -> str:
    """Return the resource name of a key."""
    return f"issuers/{issuer}/keys/{kid}"


def parse_issuer(name: str, field: str) -> str:
    """Return the issuer of `issuers/{issuer}`.

    Raises:
        RequestInvalidError: The name has another form.
    """
    match = _ISSUER.fullmatch(name)
    if match is None:
        raise _invalid(field, "must have the form issuers/{issuer}")
    return match[1]


def parse_key(name: str, field: str) -> tuple[str, str]:
    """Return the issuer and the kid of `issuers/{issuer}/keys/{kid}`.

    Raises:
        RequestInvalidError: The name has another form.
    """
    match = _KEY.fullmatch(name)
    if match is None:
        raise _invalid(field, "must have the form issuers/{issuer}/keys/{kid}")
    return match[1], match[2]


def _invalid(field: str, description: str) -> RequestInvalidError:
    return RequestInvalidError([Violation(field, description)])
