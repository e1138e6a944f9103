"""Keys, their versions and the soft-deleted ones of one vault or Managed HSM."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from . import signing
from .errors import conflict, not_found
from .signing import Material
from .specs import KeyType

DAY = 86_400


@dataclass(slots=True)
class Clock:
    """The time that keys live by: the wall clock, and what a test has moved it by."""

    offset: float = 0.0

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time() + self.offset

    def advance(self, seconds: float) -> None:
        """Move it; backwards too."""
        self.offset += seconds


@dataclass(slots=True, kw_only=True)
class KeyVersion:
    """One version of a key. Its attributes and tags are its own.

    Attributes:
        name: The key's name, as it was created.
        version: 32 hexadecimal digits.
        kind: The key's type.
        material: The key itself.
        curve: Azure's name of the curve, for EC.
        operations: The `key_ops`.
        enabled: Whether it may be used.
        not_before: Seconds since the epoch before which it may not sign; None: no limit.
        expires: Seconds since the epoch from which on it may not sign; None: no limit.
        created: When it was created, in seconds since the epoch.
        updated: When it was last changed.
        tags: Its tags.
        exportable: Whether its private half may be released.
        visible: Seconds since the epoch before which reads answer that it does not exist.
    """

    name: str
    version: str = field(default_factory=lambda: secrets.token_hex(16))
    kind: KeyType
    material: Material
    curve: str | None
    operations: tuple[str, ...]
    enabled: bool = True
    not_before: int | None = None
    expires: int | None = None
    created: int
    updated: int
    tags: dict[str, str] = field(default_factory=dict)
    exportable: bool = False
    visible: float = 0.0

    def attributes(self, recovery: dict[str, Any]) -> dict[str, Any]:
        """Return the `attributes` of the key bundle."""
        limits = {"nbf": self.not_before, "exp": self.expires}
        return {
            "enabled": self.enabled,
            **{name: value for name, value in limits.items() if value is not None},
            "created": self.created,
            "updated": self.updated,
            **({"exportable": True} if self.exportable else {}),
            **recovery,
        }

    def jwk(self, kid: str) -> dict[str, Any]:
        """Return the public half as Azure writes it: `kty` may end in `-HSM`, and `key_ops` are the private key's."""
        return {
            "kid": kid,
            "kty": self.kind.value,
            "key_ops": list(self.operations),
            **signing.public_members(self.material, self.curve),
        }


@dataclass(slots=True)
class DeletedKey:
    """A soft-deleted key with all of its versions."""

    name: str
    versions: list[KeyVersion]
    deleted: int
    purged: int


class KeyStore:
    """The keys of one vault. Names are compared without regard to case, as in Azure."""

    def __init__(self, clock: Clock, *, recoverable_days: int) -> None:
        self.clock = clock
        self.recoverable_days = recoverable_days
        self._keys: dict[str, list[KeyVersion]] = {}
        self._deleted: dict[str, DeletedKey] = {}

    def __iter__(self) -> Iterator[list[KeyVersion]]:
        """Iterate over the versions of each key, in order of creation."""
        return iter([list(versions) for versions in tuple(self._keys.values())])

    def add(self, version: KeyVersion) -> None:
        """Keep a new version; the key exists from its first one on.

        Raises:
            AzureError: A soft-deleted key has the name.
        """
        if self.deleted(version.name) is not None:
            raise conflict(
                f"Key {version.name} is currently in a deleted but recoverable state, and its name cannot be reused; in "
                "this state, the key can only be recovered or purged.",
                "ObjectIsDeletedButRecoverable",
            )
        self._keys.setdefault(version.name.lower(), []).append(version)

    def versions(self, name: str) -> list[KeyVersion]:
        """Return the versions of a key that reads can see, oldest first; empty: there is no such key."""
        now = self.clock.now()
        return [v for v in self._keys.get(name.lower(), ()) if v.visible <= now]

    def all_versions(self, name: str) -> list[KeyVersion]:
        """Return the versions of a key, visible or not."""
        return list(self._keys.get(name.lower(), ()))

    def find(self, name: str, version: str | None) -> KeyVersion:
        """Return a version of a key; None or an empty text: the newest.

        Raises:
            AzureError: It does not exist.
        """
        versions = self.versions(name)
        found = [v for v in versions if not version or v.version == version]
        if not found:
            raise not_found(f"{name}/{version}" if version else name)
        return found[-1]

    def delete(self, name: str) -> DeletedKey:
        """Soft-delete a key with all of its versions.

        Raises:
            AzureError: It does not exist.
        """
        if not self.versions(name):
            raise not_found(name)
        now = int(self.clock.now())
        versions = self._keys.pop(name.lower())
        gone = DeletedKey(versions[-1].name, versions, now, now + self.recoverable_days * DAY)
        self._deleted[name.lower()] = gone
        return gone

    def deleted(self, name: str) -> DeletedKey | None:
        """Return the soft-deleted key of that name, unless its time is over."""
        gone = self._deleted.get(name.lower())
        if gone is not None and gone.purged <= self.clock.now():
            del self._deleted[name.lower()]
            return None
        return gone

    def all_deleted(self) -> list[DeletedKey]:
        """Return the soft-deleted keys."""
        found = [self.deleted(name) for name in tuple(self._deleted)]
        return [gone for gone in found if gone is not None]

    def purge(self, name: str) -> None:
        """Remove a soft-deleted key for good."""
        self._deleted.pop(name.lower(), None)

    def recover(self, name: str) -> KeyVersion:
        """Bring a soft-deleted key back, and return its newest version.

        Raises:
            AzureError: It does not exist.
        """
        gone = self.deleted(name)
        if gone is None:
            raise not_found(name)
        del self._deleted[name.lower()]
        self._keys[name.lower()] = gone.versions
        return gone.versions[-1]
