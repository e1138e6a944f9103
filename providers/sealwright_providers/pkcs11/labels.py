"""Marks on keys. PKCS#11 has no tags, so CKA_LABEL holds `sealwright:<deployment>:<intent>`.

It is set in the call that generates the key, so that no key is ever without it. PKCS#11 sets no limit to a label; with
UUIDs it has 84 bytes, which every HSM but the smallest takes (a YubiHSM 2 itself takes 40, its module more). Other tags
are names for people, and there is no place for them. CKA_ID is random and says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from sealwright.errors import ProviderUnsupportedError

_PREFIX: Final = "sealwright"
_TAGS: Final = ("sealwright:deployment", "sealwright:intent")
_PARTS: Final = 3


def label_of(tags: Mapping[str, str]) -> str:
    """Return the CKA_LABEL of a new key."""
    return ":".join((_PREFIX, *(quote(tags.get(tag, ""), safe="") for tag in _TAGS)))


def is_ours(label: str) -> bool:
    """Tell whether a key has a label as we give them."""
    parts = label.split(":")
    return len(parts) == _PARTS and parts[0] == _PREFIX


def exact_label(tags: Mapping[str, str]) -> str | None:
    """Return the only label that a key with these tags can have; None: there are many.

    Raises:
        ProviderUnsupportedError: A tag that is not kept. An empty answer would have the key made a second time.
    """
    if not tags.keys() <= set(_TAGS):
        raise ProviderUnsupportedError("keys of a token are found by deployment and intent alone")
    return label_of(tags) if len(tags) == len(_TAGS) else None


def carries(label: str, tags: Mapping[str, str]) -> bool:
    """Tell whether a key with that label carries all these tags."""
    parts = label.split(":")[1:]
    return is_ours(label) and all(
        tag not in tags or part == quote(tags[tag], safe="") for tag, part in zip(_TAGS, parts, strict=True)
    )
