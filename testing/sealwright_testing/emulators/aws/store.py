"""Stores the keys and aliases of one account and Region, and resolves a KeyId."""

from __future__ import annotations

import re
import secrets
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .errors import AwsError, not_found
from .keys import KeySummary, KmsKey
from .specs import KeyState

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEY_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32}", re.IGNORECASE)
_ARN_PARTS: Final = 6


@dataclass(slots=True)
class Clock:
    """The clock of the keys: the wall clock plus the offset that a test has set.

    Signatures of requests are checked against the wall clock, since a client's clock does not have the offset.
    """

    offset: float = 0.0

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time() + self.offset

    def advance(self, seconds: float) -> None:
        """Move the clock, forwards or backwards."""
        self.offset += seconds


@dataclass(slots=True, kw_only=True)
class Alias:
    """A friendly name of a key."""

    name: str
    key_id: str
    creation_time: float
    update_time: float


class KeyStore:
    """All keys and aliases, in order of creation."""

    def __init__(self, *, account: str, region: str, clock: Clock) -> None:
        self.account = account
        self.region = region
        self.clock = clock
        self.aliases: dict[str, Alias] = {}
        self._keys: dict[str, KmsKey] = {}

    def arn(self, resource: str) -> str:
        """Return the ARN of `key/<id>` or `alias/<name>` in this account and Region."""
        return f"arn:aws:kms:{self.region}:{self.account}:{resource}"

    @staticmethod
    def new_key_id(*, multi_region: bool) -> str:
        """Return a new key ID: a UUID, or for a multi-Region key `mrk-` and 32 hexadecimal digits."""
        return f"mrk-{secrets.token_hex(16)}" if multi_region else str(uuid.uuid4())

    def add(self, key: KmsKey) -> None:
        """Add a new key."""
        self._keys[key.key_id] = key

    def live(self) -> tuple[KmsKey, ...]:
        """Return all keys that are not deleted."""
        now = self.clock.now()
        # Use copies and pop, because tests read from other threads.
        for key in [k for k in tuple(self._keys.values()) if k.deletion_time is not None and k.deletion_time <= now]:
            self._keys.pop(key.key_id, None)
            for name in [a.name for a in tuple(self.aliases.values()) if a.key_id == key.key_id]:
                self.aliases.pop(name, None)
        return tuple(self._keys.values())

    def get(self, key_id: str) -> KmsKey | None:
        """Return the key with this ID, or `None`."""
        self.live()
        return self._keys.get(key_id)

    def resolve(self, reference: str, operation: str, *, allow_alias: bool = True) -> KmsKey:
        """Return the key that a KeyId names: a key ID, key ARN, alias name or alias ARN.

        Args:
            reference: the KeyId of the request.
            operation: the operation. A new key may not be visible to it yet.
            allow_alias: false for operations that do not accept an alias, which are those that manage keys.

        Raises:
            AwsError: NotFoundException if the key does not exist here or the operation does not accept an alias,
                InvalidArnException if it is not the ARN of a key (or is that of an alias which is not accepted),
                AccessDeniedException for a key of another account: known from reports, not checked against AWS.
        """
        resource = self._local_resource(reference, operation) if reference.startswith("arn:") else reference
        if resource.startswith("alias/"):
            if not allow_alias and reference.startswith("arn:"):
                raise AwsError("InvalidArnException", f"Invalid arn {reference}")
            if not allow_alias:
                raise not_found(f"Invalid keyId '{reference}'")
            return self._alias_target(resource, operation)
        key_id = resource.removeprefix("key/") if reference.startswith("arn:") else resource
        if not _KEY_ID.fullmatch(key_id):
            raise not_found(f"Invalid keyId '{key_id}'")
        key = self.get(key_id.lower())
        if key is None or key.hidden(operation, self.clock.now()):
            raise not_found(f"Key '{self.arn(f'key/{key_id}')}' does not exist")
        return key

    def find(self, reference: str) -> KmsKey | None:
        """Return the key that a KeyId names, visible or not, or `None`. Do not use it to answer a client."""
        resource = reference.removeprefix(self.arn(""))
        if resource.startswith("alias/"):
            alias = self.aliases.get(resource)
            return None if alias is None else self.get(alias.key_id)
        return self.get(resource.removeprefix("key/").lower())

    def twin(self, key: KmsKey) -> KmsKey | None:
        """Return another enabled key of the same spec and usage, or `None`."""
        return next(
            (
                other
                for other in self.live()
                if other is not key
                and other.state is KeyState.ENABLED
                and (other.spec, other.usage) == (key.spec, key.usage)
            ),
            None,
        )

    def summaries(self) -> Mapping[str, KeySummary]:
        """Return a summary of each key, by key ID."""
        return {
            key.key_id: KeySummary(
                key_id=key.key_id,
                arn=key.arn,
                spec=key.spec,
                usage=key.usage,
                state=key.state,
                description=key.description,
                tags=dict(key.tags),
                aliases=tuple(sorted(a.name for a in tuple(self.aliases.values()) if a.key_id == key.key_id)),
                creation_time=key.creation_time,
                deletion_time=key.deletion_time,
            )
            for key in self.live()
        }

    def _alias_target(self, name: str, operation: str) -> KmsKey:
        self.live()
        alias = self.aliases.get(name)
        key = None if alias is None else self.get(alias.key_id)
        if key is None or key.hidden(operation, self.clock.now()):
            raise not_found(f"Alias {self.arn(name)} is not found.")
        return key

    def _local_resource(self, arn: str, operation: str) -> str:
        parts = arn.split(":", _ARN_PARTS - 1)
        if len(parts) != _ARN_PARTS or parts[2] != "kms" or not parts[5].startswith(("key/", "alias/")):
            raise AwsError("InvalidArnException", f"Invalid arn {arn}")
        partition, region, account, resource = parts[1], parts[3], parts[4], parts[5]
        if region != self.region:
            raise not_found(f"Invalid arn {region}")
        if partition != "aws":
            raise not_found(f"Invalid arn {partition}")
        if account != self.account:
            # The service does not reveal whether another account has such a key.
            raise AwsError(
                "AccessDeniedException",
                f"User: arn:aws:iam::{self.account}:user/test is not authorized to perform: kms:{operation} on "
                "this resource because the resource does not exist in this Region, no resource-based policies allow "
                "access, or a resource-based policy explicitly denies access",
            )
        return resource
