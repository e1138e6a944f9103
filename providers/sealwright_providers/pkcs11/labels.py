"""Labels in place of tags. PKCS#11 has no tags, so CKA_LABEL holds `sealwright:<deployment>:<intent>`.

The call that generates the key sets the label, so that every key has it. PKCS#11 does not limit a label. With UUIDs it has 84
bytes, which all but the smallest HSMs accept (a YubiHSM 2 itself accepts 40, its module more). Other tags are names for people, and
are dropped. CKA_ID is random.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from sealwright.provider import ProviderUnsupportedError

_PREFIX: Final = "sealwright"
_TAGS: Final = ("sealwright:deployment", "sealwright:intent")
_PARTS: Final = 3


def label_of(tags: Mapping[str, str]) -> str:
    """Return the CKA_LABEL of a new key."""
    return ":".join((_PREFIX, *(quote(tags.get(tag, ""), safe="") for tag in _TAGS)))


def is_ours(label: str) -> bool:
    """Tell whether a label has our form."""
    parts = label.split(":")
    return len(parts) == _PARTS and parts[0] == _PREFIX


def exact_label(tags: Mapping[str, str]) -> str | None:
    """Return the only label that a key with these tags can have; None: several labels have them.

    Raises:
        ProviderUnsupportedError: Labels do not hold one of the tags. An empty result would create the key a second time.
    """
    if not tags.keys() <= set(_TAGS):
        raise ProviderUnsupportedError("keys of a token can be found only by deployment and intent")
    return label_of(tags) if len(tags) == len(_TAGS) else None


def carries(label: str, tags: Mapping[str, str]) -> bool:
    """Tell whether a key with this label has all these tags."""
    parts = label.split(":")[1:]
    return is_ours(label) and all(
        tag not in tags or part == quote(tags[tag], safe="") for tag, part in zip(_TAGS, parts, strict=True)
    )
