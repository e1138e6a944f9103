"""Operations on the tags of a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sealwright_testing.emulators.aws.errors import AwsError, unreadable
from sealwright_testing.emulators.aws.params import Params

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .call import Answer, Call

MAX_TAGS: Final = 50
"""The most tags on a key."""
_MAX_TAG_KEY: Final = 128
_MAX_TAG_VALUE: Final = 256


async def tag_resource(call: Call) -> Answer:
    """Add tags, or replace their values. AWS KMS API Reference, TagResource."""
    tags = _required_list(call, "Tags")
    key = call.key()
    key.check_manageable()
    key.tags = read_tags(tags, key.tags)
    return {}


async def untag_resource(call: Call) -> Answer:
    """Remove tags. Succeeds for tags that the key does not have. AWS KMS API Reference, UntagResource."""
    names = _required_list(call, "TagKeys")
    if not all(isinstance(name, str) for name in names):
        raise unreadable("TagKeys is not a list of strings.")
    key = call.key()
    key.check_manageable()
    key.tags = {name: value for name, value in key.tags.items() if name not in names}
    return {}


async def list_resource_tags(call: Call) -> Answer:
    """List tags. A page has 50, or as many as Limit says (1-50). AWS KMS API Reference, ListResourceTags."""
    key = call.key()
    page, rest = call.page(list(key.tags.items()), lambda item: item[0], limit=MAX_TAGS, most=MAX_TAGS)
    return {"Tags": [{"TagKey": name, "TagValue": value} for name, value in page], **rest}


def read_tags(items: list[Any], current: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that a key has after `items` were added to `current`.

    Args:
        items: objects with TagKey and TagValue, as a client sent them.
        current: the tags that the key has.

    Raises:
        AwsError: TagException for a reserved or a repeated tag key (AWS documents the type for "one or more tags are
            not valid" and does not say for which faults), ValidationException for a wrong length,
            LimitExceededException for more than 50.
    """
    added: dict[str, str] = {}
    for item in items:
        if not isinstance(item, dict):
            raise unreadable("A tag is not a JSON object.")
        tag = Params(item)
        name = tag.required_text("TagKey", most=_MAX_TAG_KEY)
        if name.lower().startswith("aws:"):
            raise AwsError("TagException", "Tags beginning with aws: are reserved for AWS.")
        if name in added:
            raise AwsError("TagException", "Duplicate tag keys.")
        added[name] = tag.required_text("TagValue", least=0, most=_MAX_TAG_VALUE)
    tags = {**current, **added}
    if len(tags) > MAX_TAGS:
        raise AwsError("LimitExceededException", f"A key can have at most {MAX_TAGS} tags.")
    return tags


def _required_list(call: Call, name: str) -> list[Any]:
    values = call.params.items(name)
    if values is None:
        # This raises the error for an absent parameter, for which lists have no reader.
        call.params.required_text(name)
    return values or []
