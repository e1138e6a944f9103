"""Reads and checks the members of requests, as the service does."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from . import signing
from .errors import bad_parameter
from .keys import KeyVersion
from .specs import (
    CURVES,
    DEFAULT_CURVE,
    DEFAULT_OCT_SIZE,
    DEFAULT_OPERATIONS,
    DEFAULT_RSA_SIZE,
    OCT_SIZES,
    OPERATIONS,
    RSA_SIZES,
    KeyType,
)

MAX_TAGS: Final = 15
MAX_TAG_LENGTH: Final = 256
_NAME: Final = re.compile(r"[0-9a-zA-Z-]{1,127}")


class KeyParameters(NamedTuple):
    """What kind of key is to be created."""

    kind: KeyType
    size: int
    curve: str
    operations: tuple[str, ...]


def name_of(name: str) -> str:
    """Return a key's name if it is valid.

    Raises:
        AzureError: It is not.
    """
    if not _NAME.fullmatch(name):
        raise bad_parameter("The request URI contains an invalid name.")
    return name


def key_parameters(fields: dict[str, Any], *, managed_hsm: bool) -> KeyParameters:
    """Read the parameters of a new key.

    Raises:
        AzureError: They are not valid, or the vault has no such keys.
    """
    try:
        kind = KeyType(fields.get("kty", ""))
    except ValueError:
        raise bad_parameter("Property kty has an invalid value.") from None
    if (managed_hsm and not kind.hsm) or (not managed_hsm and kind.family == "oct"):
        raise bad_parameter(f"Key type {kind} is not supported here.")
    curve = fields.get("crv", DEFAULT_CURVE)
    if kind.family == "EC" and curve not in CURVES:
        raise bad_parameter("Property crv has an invalid value.")
    sizes, default = (OCT_SIZES, DEFAULT_OCT_SIZE) if kind.family == "oct" else (RSA_SIZES, DEFAULT_RSA_SIZE)
    size = fields.get("key_size", default)
    if kind.family != "EC" and size not in sizes:
        raise bad_parameter("Property key_size has an invalid value.")
    operations = fields.get("key_ops") or DEFAULT_OPERATIONS[kind.family]
    if not set(operations) <= OPERATIONS:
        raise bad_parameter("Property key_ops has an invalid value.")
    return KeyParameters(kind, size, str(curve), tuple(operations))


def tags(fields: dict[str, Any]) -> dict[str, str] | None:
    """Read the tags; None: the request has none.

    Raises:
        AzureError: There are too many, or one is too long or not text.
    """
    given = fields.get("tags")
    if given is None:
        return None
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise bad_parameter("Property tags has an invalid value.")
    if len(given) > MAX_TAGS:
        raise bad_parameter(f"More than {MAX_TAGS} tags.")
    if any(len(name) > MAX_TAG_LENGTH or len(value) > MAX_TAG_LENGTH for name, value in given.items()):
        raise bad_parameter(f"A tag is longer than {MAX_TAG_LENGTH} characters.")
    return dict(given)


def attributes(key: KeyVersion, fields: dict[str, Any]) -> None:
    """Set the attributes that a request gives.

    Raises:
        AzureError: One of them is not valid.
    """
    given = fields.get("attributes") or {}
    enabled = given.get("enabled", key.enabled)
    start, end = given.get("nbf", key.not_before), given.get("exp", key.expires)
    if not isinstance(enabled, bool) or not all(isinstance(t, int | None) for t in (start, end)):
        raise bad_parameter("Property attributes has an invalid value.")
    if start is not None and end is not None and start > end:
        raise bad_parameter("The expiration date is before the activation date.")
    key.enabled, key.not_before, key.expires = enabled, start, end


def value_of(fields: dict[str, Any], name: str) -> bytes:
    """Read a member with base64url.

    Raises:
        AzureError: It is missing or anything else.
    """
    text = fields.get(name)
    if not isinstance(text, str):
        raise bad_parameter(f"Property {name} is required.")
    try:
        return signing.decode(text)
    except ValueError:
        raise bad_parameter(f"Property {name} is not base64url.") from None
