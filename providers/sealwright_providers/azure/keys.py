"""Keys as Key Vault describes and lists them, and the names of the keys that Sealwright creates."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from sealwright.provider import (
    KeyDescription,
    ProviderKeyDisabledError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
)
from sealwright_providers.azure.errors import DISABLED
from sealwright_providers.azure.public_keys import algorithms, protection, public_key
from sealwright_providers.azure.uri import KeyName, KeyUris

INTENT: Final = "sealwright:intent"
"""The tag with the intent that a key was created for."""

_PREFIX: Final = "sealwright-"
_PLAIN: Final = re.compile(r"[0-9a-zA-Z-]{1,100}")
_MAX_TAGS: Final = 15
_MAX_TAG: Final = 256


class Version(NamedTuple):
    """A version of a key in a list.

    Attributes:
        version: The version.
        created: When it was created, in seconds since the epoch.
        tags: Its tags.
    """

    version: str
    created: int
    tags: Mapping[str, str]


def key_name(tags: Mapping[str, str]) -> str:
    """Return the name of the key that is to have these tags: it is made of the intent, or random without one."""
    intent = tags.get(INTENT)
    if intent is None:
        return _PREFIX + secrets.token_hex(16)
    # Names have letters, digits and hyphens only, and do not distinguish upper and lower case.
    plain = _PLAIN.fullmatch(intent) and intent == intent.lower()
    return _PREFIX + (intent if plain else hashlib.sha256(intent.encode()).hexdigest())


def check_tags(tags: Mapping[str, str]) -> None:
    """Check that Key Vault can hold the tags (REST reference, "Key tags").

    Raises:
        ProviderUnsupportedError: There are too many, or one is too long.
    """
    if len(tags) > _MAX_TAGS or any(len(text) > _MAX_TAG for pair in tags.items() for text in pair):
        raise ProviderUnsupportedError(f"a key in Key Vault has at most {_MAX_TAGS} tags of {_MAX_TAG} characters")


def describe(bundle: Mapping[str, Any], uris: KeyUris, asked: KeyName) -> KeyDescription:
    """Return the description of a key that GetKey or CreateKey returned.

    Args:
        bundle: The answer.
        uris: Key URIs of the vault.
        asked: The key that was asked for; without a version any version of it is right.

    Raises:
        ProviderKeyDisabledError: The key may not sign now.
        ProviderUnavailableError: The answer is not complete, or is about another key.
    """
    jwk, attributes = bundle.get("key"), bundle.get("attributes")
    kid = jwk.get("kid") if isinstance(jwk, dict) else None
    if not isinstance(jwk, dict) or not isinstance(kid, str) or not isinstance(attributes, dict):
        raise ProviderUnavailableError("the answer of Key Vault contains no description of a key")
    uri = uris.of_kid(kid)
    try:
        answered = uris.pinned(uri or "")
    except ProviderUnsupportedError:
        raise ProviderUnavailableError("Key Vault described a key outside the vault") from None
    if answered.name.lower() != asked.name.lower() or asked.version not in {None, answered.version}:
        raise ProviderUnavailableError("Key Vault described a different key from the one requested")
    if not _may_sign(attributes):
        raise ProviderKeyDisabledError(DISABLED)
    return KeyDescription(
        uri=uri or "",
        public_key=public_key(jwk),
        algorithms=algorithms(jwk),
        protection=protection(jwk),
        # Key Vault does not show that a key was imported, but the service never asks for a key that may be exported.
        imported=bool(attributes.get("exportable")),
    )


def _may_sign(attributes: Mapping[str, Any]) -> bool:
    """Tell whether a key is enabled and within its dates (Key Vault, "About keys", key attributes)."""
    start, end = attributes.get("nbf"), attributes.get("exp")
    if not all(isinstance(limit, int | None) for limit in (start, end)):
        raise ProviderUnavailableError("the answer of Key Vault contains no description of a key")
    now = time.time()
    return attributes.get("enabled") is True and (start is None or start <= now) and (end is None or now < end)


def items_of(page: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the items of a page of a list.

    Raises:
        ProviderUnavailableError: The answer is not a list. An empty list instead would make a second key for an intent.
    """
    items = page.get("value")
    if not isinstance(items, list) or not all(isinstance(i, dict) and isinstance(i.get("kid"), str) for i in items):
        raise ProviderUnavailableError("the answer of Key Vault contains no list")
    return items


def version_of(item: Mapping[str, Any]) -> Version:
    """Return an item of a list of versions.

    Raises:
        ProviderUnavailableError: It is incomplete.
    """
    attributes = item.get("attributes")
    created = attributes.get("created", 0) if isinstance(attributes, dict) else None
    if not isinstance(created, int):
        raise ProviderUnavailableError("the answer of Key Vault contains no list of versions")
    return Version(str(item["kid"]).rpartition("/")[2], created, tags_of(item))


def tags_of(item: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the tags of an item of a list."""
    tags = item.get("tags") or {}
    return tags if isinstance(tags, dict) else {}


def has_tags(item: Mapping[str, str], tags: Mapping[str, str]) -> bool:
    """Tell whether all of these tags are among those of an item."""
    return all(item.get(name) == value for name, value in tags.items())


def oldest(versions: Iterable[Version], tags: Mapping[str, str]) -> Version | None:
    """Return the first version with these tags, the same one for every replica; None: there is none."""
    return min((v for v in versions if has_tags(v.tags, tags)), key=lambda v: (v.created, v.version), default=None)
