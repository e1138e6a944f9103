"""Operations that create, describe and delete keys."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

from sealwright_testing.emulators.aws import signing
from sealwright_testing.emulators.aws.errors import AwsError, invalid, not_found
from sealwright_testing.emulators.aws.keys import KmsKey
from sealwright_testing.emulators.aws.specs import KeySpec, KeyState, KeyUsage, usages

from .tags import read_tags

if TYPE_CHECKING:
    from .call import Answer, Call

_MAX_DESCRIPTION: Final = 8192
_MAX_POLICY: Final = 131_072
_MIN_WINDOW_DAYS: Final = 7
_MAX_WINDOW_DAYS: Final = 30


async def create_key(call: Call) -> Answer:
    """Create a key with real material. AWS KMS API Reference, CreateKey.

    Origin must be AWS_KMS, and a custom key store is refused. A Policy is kept and given back, not enforced.
    """
    params = call.params
    spec = params.choice("KeySpec", KeySpec) or params.choice("CustomerMasterKeySpec", KeySpec)
    spec = spec or KeySpec.SYMMETRIC_DEFAULT
    usage = _usage(spec, params.choice("KeyUsage", KeyUsage))
    origin = params.text("Origin") or "AWS_KMS"
    if origin != "AWS_KMS" or params.raw("CustomKeyStoreId") is not None:
        raise AwsError("UnsupportedOperationException", "Only keys with the origin AWS_KMS are emulated.")
    description = params.text("Description", least=0, most=_MAX_DESCRIPTION) or ""
    tags = read_tags(params.items("Tags") or [], {})
    multi_region = params.flag("MultiRegion")
    policy = params.text("Policy", most=_MAX_POLICY) or _default_policy(call.store.account)
    material = await asyncio.to_thread(signing.generate, spec) if spec.is_rsa else signing.generate(spec)
    now = call.store.clock.now()
    key_id = call.store.new_key_id(multi_region=multi_region)
    key = KmsKey(
        key_id=key_id,
        arn=call.store.arn(f"key/{key_id}"),
        account=call.store.account,
        region=call.store.region,
        spec=spec,
        usage=usage,
        material=material,
        creation_time=now,
        description=description,
        multi_region=multi_region,
        policy=policy,
        tags=tags,
        hidden_until=0.0 if call.hide is None else now + call.hide.seconds,
        hidden_from="*" if call.hide is None else call.hide.operation,
    )
    call.store.add(key)
    return {"KeyMetadata": key.metadata()}


async def describe_key(call: Call) -> Answer:
    """Describe a key. AWS KMS API Reference, DescribeKey."""
    return {"KeyMetadata": call.key(allow_alias=True).metadata()}


async def list_keys(call: Call) -> Answer:
    """List IDs and ARNs. A page has 100, or as many as Limit says. AWS KMS API Reference, ListKeys."""
    now = call.store.clock.now()
    visible = [key for key in call.store.live() if not key.hidden(call.operation, now)]
    page, rest = call.page(visible, lambda key: key.key_id, limit=100, most=1000)
    return {"Keys": [{"KeyId": key.key_id, "KeyArn": key.arn} for key in page], **rest}


async def enable_key(call: Call) -> Answer:
    """Enable a disabled key. AWS KMS API Reference, EnableKey."""
    key = call.key()
    key.check_manageable()
    key.state = KeyState.ENABLED
    return {}


async def disable_key(call: Call) -> Answer:
    """Disable a key. AWS KMS API Reference, DisableKey."""
    key = call.key()
    key.check_manageable()
    key.state = KeyState.DISABLED
    return {}


async def schedule_key_deletion(call: Call) -> Answer:
    """Schedule the deletion of a key in 7 to 30 days (default: 30). AWS KMS API Reference, ScheduleKeyDeletion.

    The service model allows 1 to 365 days and the text of the reference 7 to 30: the service refuses the rest. Its
    words for that are not known; the type is.
    """
    key = call.key()
    days = call.params.integer("PendingWindowInDays", least=1, most=365) or _MAX_WINDOW_DAYS
    if not _MIN_WINDOW_DAYS <= days <= _MAX_WINDOW_DAYS:
        raise invalid(f"PendingWindowInDays must be between {_MIN_WINDOW_DAYS} and {_MAX_WINDOW_DAYS} inclusive.")
    key.schedule_deletion(days, call.store.clock.now())
    return {
        "KeyId": key.arn,
        "DeletionDate": round(key.deletion_time or 0.0, 3),
        "KeyState": key.state,
        "PendingWindowInDays": days,
    }


async def cancel_key_deletion(call: Call) -> Answer:
    """Cancel the deletion of a key, which is then disabled. AWS KMS API Reference, CancelKeyDeletion."""
    key = call.key()
    key.cancel_deletion()
    return {"KeyId": key.arn}


async def update_key_description(call: Call) -> Answer:
    """Replace the description. AWS KMS API Reference, UpdateKeyDescription."""
    key = call.key()
    description = call.params.required_text("Description", least=0, most=_MAX_DESCRIPTION)
    key.check_manageable()
    key.description = description
    return {}


async def get_key_policy(call: Call) -> Answer:
    """Return the key policy: the default one, unless CreateKey set another. AWS KMS API Reference, GetKeyPolicy."""
    key = call.key()
    name = call.params.text("PolicyName", most=128) or "default"
    if name != "default":
        raise not_found(f"No such policy exists: {name}")
    return {"Policy": key.policy, "PolicyName": name}


def _usage(spec: KeySpec, usage: KeyUsage | None) -> KeyUsage:
    if usage is None:
        if spec is not KeySpec.SYMMETRIC_DEFAULT:
            raise invalid("You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")
        return KeyUsage.ENCRYPT_DECRYPT
    if usage not in usages(spec):
        raise invalid(f"The specified KeyUsage value {usage} is not compatible with the KeySpec value {spec}.")
    return usage


def _default_policy(account: str) -> str:
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Id": "key-default-1",
            "Statement": [
                {
                    "Sid": "Enable IAM User Permissions",
                    "Effect": "Allow",
                    "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
                    "Action": "kms:*",
                    "Resource": "*",
                },
            ],
        },
    )
