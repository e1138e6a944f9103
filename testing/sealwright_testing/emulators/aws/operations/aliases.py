"""Operations on aliases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sealwright_testing.emulators.aws.errors import AwsError, invalid, not_found
from sealwright_testing.emulators.aws.store import Alias

if TYPE_CHECKING:
    from sealwright_testing.emulators.aws.keys import KmsKey

    from .call import Answer, Call

_PATTERN: Final = "[a-zA-Z0-9:/_-]+"
_MAX_NAME: Final = 256
_PREFIX: Final = "alias/"
_RESERVED: Final = "alias/aws/"


async def create_alias(call: Call) -> Answer:
    """Create an alias of a key. AWS KMS API Reference, CreateAlias.

    Names that begin with alias/aws/ belong to AWS. Other emulators refuse them with
    NotAuthorizedException; not checked against AWS.
    """
    name = _name(call)
    if name.startswith(_RESERVED):
        raise AwsError("NotAuthorizedException")
    key = _target(call)
    if name in call.store.aliases:
        raise AwsError("AlreadyExistsException", f"An alias with the name {call.store.arn(name)} already exists")
    now = call.store.clock.now()
    call.store.aliases[name] = Alias(name=name, key_id=key.key_id, creation_time=now, update_time=now)
    return {}


async def update_alias(call: Call) -> Answer:
    """Move an alias to another key of the same type and usage. AWS KMS API Reference, UpdateAlias."""
    name = _name(call)
    alias = _alias(call, name)
    key = _target(call)
    current = call.store.get(alias.key_id)
    if current is not None and (current.spec.family, current.usage) != (key.spec.family, key.usage):
        raise invalid(
            f"Alias {call.store.arn(name)} cannot be changed from a {current.spec.family} key with key usage "
            f"{current.usage} to a {key.spec.family} key with key usage {key.usage}."
        )
    alias.key_id = key.key_id
    alias.update_time = call.store.clock.now()
    return {}


async def delete_alias(call: Call) -> Answer:
    """Delete an alias. The key stays. AWS KMS API Reference, DeleteAlias."""
    name = _name(call)
    _alias(call, name)
    del call.store.aliases[name]
    return {}


async def list_aliases(call: Call) -> Answer:
    """List aliases, of one key if KeyId is given. AWS KMS API Reference, ListAliases.

    A page has 50, or as many as Limit says: 1 to 100 in the reference, which is enforced, though the service
    model allows 1000. A real account also has aliases of AWS managed keys (alias/aws/...), which are not emulated.
    """
    only = call.key().key_id if call.params.raw("KeyId") is not None else None
    call.store.live()
    aliases = sorted(
        (a for a in call.store.aliases.values() if only in {None, a.key_id}),
        key=lambda alias: alias.name,
    )
    page, rest = call.page(aliases, lambda alias: alias.name, limit=50, most=100)
    entries = [
        {
            "AliasName": alias.name,
            "AliasArn": call.store.arn(alias.name),
            "TargetKeyId": alias.key_id,
            "CreationDate": round(alias.creation_time, 3),
            "LastUpdatedDate": round(alias.update_time, 3),
        }
        for alias in page
    ]
    return {"Aliases": entries, **rest}


def _name(call: Call) -> str:
    name = call.params.required_text("AliasName", most=_MAX_NAME, pattern=_PATTERN)
    if not name.startswith(_PREFIX) or name == _PREFIX:
        raise invalid(
            'Alias must start with the prefix "alias/". Please see '
            "https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html"
        )
    return name


def _alias(call: Call, name: str) -> Alias:
    call.store.live()
    alias = call.store.aliases.get(name)
    if alias is None:
        raise not_found(f"Alias {call.store.arn(name)} is not found.")
    return alias


def _target(call: Call) -> KmsKey:
    key = call.key(name="TargetKeyId")
    key.check_manageable()
    return key
