"""The emulated vault without the network: its keys and identities, the faults to inject, and the log of calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from sealwright_testing.emulators.calls import CallLog
from sealwright_testing.emulators.faultbook import ANY, FaultBook

from .calls import CallRecord
from .faults import Fault, FaultKind
from .identity import Identity
from .keys import Clock, KeyStore, KeyVersion
from .operations import Vault

_UNCHANGED: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySummary:
    """A version of a key, for a test to look at.

    Attributes:
        name: The key's name.
        version: The version.
        kind: The `kty`, such as `EC-HSM`.
        curve: Azure's name of the curve, or None.
        enabled: Whether it may be used.
        not_before: Seconds since the epoch, or None.
        expires: Seconds since the epoch, or None.
        tags: Its tags.
        deleted: Whether the key is soft-deleted.
    """

    name: str
    version: str
    kind: str
    curve: str | None
    enabled: bool
    not_before: int | None
    expires: int | None
    tags: Mapping[str, str]
    deleted: bool


class AzureBackend:
    """One vault or Managed HSM. All methods may be called from any thread.

    Args:
        managed_hsm: Whether it is a Managed HSM.
        tenant: The only tenant whose tokens it takes.
        client_id: The only application that gets tokens.
        client_secret: Its secret.
        recoverable_days: How long soft-deleted keys can be recovered, 7 to 90.
        purge_protection: Whether they can be purged only by waiting.
    """

    def __init__(
        self,
        *,
        managed_hsm: bool,
        tenant: str,
        client_id: str,
        client_secret: str,
        recoverable_days: int,
        purge_protection: bool,
    ) -> None:
        keys = KeyStore(Clock(), recoverable_days=recoverable_days)
        self.vault = Vault(keys, managed_hsm, purge_protection)
        self.identity = Identity(tenant=tenant, client_id=client_id, client_secret=client_secret)
        self.book = FaultBook[Fault]()
        self.log = CallLog[CallRecord](lambda record: record.name)

    @property
    def managed_hsm(self) -> bool:
        """Whether this is a Managed HSM."""
        return self.vault.managed_hsm

    def resource(self, host: str) -> str:
        """Return the resource that tokens must be for.

        It is the domain of the host that the client named, as in Azure, so that clients which check this accept
        `NAME.vault.localhost` and `NAME.vault.azure.net`. Under `localhost` or an address it is Azure's own, which they refuse.
        """
        kind = "managedhsm" if self.managed_hsm else "vault"
        name, _, port = host.partition(":")
        if name.endswith(f".{kind}.localhost"):
            return f"https://{kind}.localhost" + (f":{port}" if port else "")
        return f"https://{kind}.azure.net"

    @property
    def keys(self) -> tuple[KeySummary, ...]:
        """All versions of all keys, soft-deleted ones last."""
        live = [_summary(v, deleted=False) for versions in self.vault.keys for v in versions]
        gone = [_summary(v, deleted=True) for key in self.vault.keys.all_deleted() for v in key.versions]
        return (*live, *gone)

    @property
    def calls(self) -> Mapping[str, int]:
        """How often each operation was asked for since the start or `reset_calls`, refused requests and challenges too."""
        return MappingProxyType(self.log.counts())

    @property
    def requests(self) -> tuple[CallRecord, ...]:
        """The last 1000 requests, oldest first."""
        return self.log.records()

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The faults in force, in the order in which they are looked at."""
        return self.book.active()

    def calls_for(self, name: str) -> Mapping[str, int]:
        """Return how often each operation was asked for with one key name."""
        return MappingProxyType(self.log.counts(name))

    def reset_calls(self) -> None:
        """Forget the counts and the requests."""
        self.log.reset()

    def add_fault(self, kind: FaultKind | str, *, operation: str = ANY, **options: Any) -> Fault:
        """Arm a fault, after those that are armed already.

        Args:
            kind: What goes wrong: a FaultKind or its value.
            operation: For which operation; `*` for all.
            options: The other attributes of Fault.

        Raises:
            ValueError: There is no such kind, or the options do not fit it.
            TypeError: An option does not exist.
        """
        return self.arm(Fault(kind=FaultKind(kind), operation=operation, **options))

    def arm(self, fault: Fault) -> Fault:
        """Arm a fault that was made before, and return it."""
        self.book.add(fault)
        return fault

    def clear_faults(self) -> None:
        """Disarm all faults."""
        self.book.clear()

    def set_attributes(
        self,
        name: str,
        version: str | None = None,
        *,
        enabled: bool | None = None,
        not_before: int | None = _UNCHANGED,
        expires: int | None = _UNCHANGED,
    ) -> None:
        """Change the attributes of a version, as an operator would in the portal.

        Args:
            name: The key's name.
            version: The version; None: the newest.
            enabled: Whether it may be used; None: unchanged.
            not_before: Seconds since the epoch; None: no limit.
            expires: Seconds since the epoch; None: no limit.

        Raises:
            KeyError: There is no such version.
        """
        found = [v for v in self.vault.keys.all_versions(name) if version in {None, v.version}]
        if not found:
            raise KeyError(f"no key {name}")
        key = found[-1]
        key.enabled = key.enabled if enabled is None else enabled
        key.not_before = key.not_before if not_before == _UNCHANGED else not_before
        key.expires = key.expires if expires == _UNCHANGED else expires

    def mark_exportable(self, name: str) -> None:
        """Have all versions of a key say that their private half may be released.

        Raises:
            KeyError: There is no such key.
        """
        found = self.vault.keys.all_versions(name)
        if not found:
            raise KeyError(f"no key {name}")
        for key in found:
            key.exportable = True

    def delete(self, name: str) -> None:
        """Soft-delete a key, as an operator would in the portal.

        Raises:
            AzureError: It does not exist.
        """
        self.vault.keys.delete(name)

    def advance_clock(self, seconds: float) -> None:
        """Move the clock that keys live by. Tokens go by the wall clock."""
        self.vault.keys.clock.advance(seconds)


def _summary(key: KeyVersion, *, deleted: bool) -> KeySummary:
    return KeySummary(
        name=key.name,
        version=key.version,
        kind=key.kind.value,
        curve=key.curve,
        enabled=key.enabled,
        not_before=key.not_before,
        expires=key.expires,
        tags=dict(key.tags),
        deleted=deleted,
    )
