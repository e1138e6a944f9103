"""Changes of keys: read the newest state, decide, write by compare-and-swap, and report what was written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from sealwright.keys.issuer import Issuer
from sealwright.keys.keyring import Keyring
from sealwright.keys.lifecycle import Key
from sealwright.keys.ports import KeyEvents, KeyStore, StoreState
from sealwright.keys.replica import ReplicaSync


class KeyChanges:
    """Writes the times of keys, for rotation and for people alike."""

    def __init__(self, store: KeyStore, keyring: Keyring, sync: ReplicaSync, events: KeyEvents) -> None:
        self._store = store
        self._keyring = keyring
        self._sync = sync
        self._events = events

    async def current(self, name: str) -> Issuer:
        """Return an issuer as the store has it now.

        Raises:
            IssuerNotFoundError: The configuration does not have an issuer of that name.
            StateTooOldError: The clock of this machine is wrong.
            StoreUnavailableError: The store cannot be read.
        """
        self._keyring.settings(name)
        await self._sync.refresh()
        return self._keyring.fresh(name)

    async def write(self, issuer: Issuer, keys: Sequence[Key]) -> bool:
        """Write keys unless another writer has changed the issuer since it was read. Return whether they were written.

        This replica has read what was written when this returns.

        Raises:
            StoreUnavailableError: The store cannot be written, its answer was lost, or it could not be read afterwards.
        """
        if not await self._store.change_keys(issuer.state, keys):
            return False
        # Beside each other: readers of this replica would see the state before the change for as long as the disk takes.
        changed = [self._events.changed(issuer.keys[key.kid].record, key) for key in keys]
        await asyncio.gather(*changed, self._sync.refresh())
        return True

    async def write_all(self, provider: str, decide: Callable[[StoreState], Sequence[Key]]) -> StoreState:
        """Block a provider and write keys of any issuers. See `KeyStore.revoke_all`.

        Raises:
            StoreUnavailableError: The store cannot be written, or its answer was lost.
        """
        written: list[Key] = []

        def decided(state: StoreState) -> Sequence[Key]:
            written[:] = decide(state)
            return written

        before = await self._store.revoke_all(provider, decided)
        old = {k.kid: k for issuer in before.issuers.values() for k in issuer.keys}
        # Together, since each record waits for the disk.
        await asyncio.gather(*(self._events.changed(old[k.kid], k) for k in written))
        return before

    async def refresh(self) -> None:
        """Let this replica see what was written.

        Raises:
            StoreUnavailableError: The store cannot be read.
        """
        await self._sync.refresh()
