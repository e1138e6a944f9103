"""The emulated operations of AWS KMS, by their names in X-Amz-Target."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from . import aliases, keys, signatures, tags

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .call import Handler

OPERATIONS: Final[Mapping[str, Handler]] = MappingProxyType(
    {
        "CreateKey": keys.create_key,
        "DescribeKey": keys.describe_key,
        "ListKeys": keys.list_keys,
        "EnableKey": keys.enable_key,
        "DisableKey": keys.disable_key,
        "ScheduleKeyDeletion": keys.schedule_key_deletion,
        "CancelKeyDeletion": keys.cancel_key_deletion,
        "UpdateKeyDescription": keys.update_key_description,
        "GetKeyPolicy": keys.get_key_policy,
        "GetPublicKey": signatures.get_public_key,
        "Sign": signatures.sign,
        "Verify": signatures.verify,
        "GenerateMac": signatures.generate_mac,
        "VerifyMac": signatures.verify_mac,
        "TagResource": tags.tag_resource,
        "UntagResource": tags.untag_resource,
        "ListResourceTags": tags.list_resource_tags,
        "CreateAlias": aliases.create_alias,
        "UpdateAlias": aliases.update_alias,
        "DeleteAlias": aliases.delete_alias,
        "ListAliases": aliases.list_aliases,
    },
)
