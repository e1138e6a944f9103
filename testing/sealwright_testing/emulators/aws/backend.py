"""The emulated AWS KMS without the network: its keys and credentials, the faults to inject, and the log of calls."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from sealwright_testing.emulators.calls import CallLog
from sealwright_testing.emulators.faultbook import ANY, FaultBook

from .calls import CallRecord
from .faults import Fault, FaultKind
from .keys import KeySummary
from .operations.call import Strangers
from .sigv4 import Credential
from .specs import KeyState
from .store import Clock, KeyStore


class AwsBackend:
    """AWS KMS of one account in one Region. All methods may be called from any thread.

    Args:
        region: the Region of the keys, which signatures of requests must name.
        account: the account of the keys, twelve digits.
        access_key: the ID of the access key that may sign requests.
        secret_key: its secret.
    """

    def __init__(self, *, region: str, account: str, access_key: str, secret_key: str) -> None:
        self.region = region
        self.account = account
        self.access_key = access_key
        self.secret_key = secret_key
        self.store = KeyStore(account=account, region=region, clock=Clock())
        self.book = FaultBook[Fault]()
        self.log = CallLog[CallRecord](lambda record: record.key_id)
        self.strangers = Strangers()
        self._credentials = {access_key: Credential(access_key=access_key, secret_key=secret_key)}

    @property
    def keys(self) -> Mapping[str, KeySummary]:
        """All keys by ID, in order of creation. Includes hidden keys, but not deleted ones."""
        return MappingProxyType(dict(self.store.summaries()))

    @property
    def calls(self) -> Mapping[str, int]:
        """How often each operation was requested since the start or `reset_calls`. Includes refused requests."""
        return MappingProxyType(self.log.counts())

    @property
    def requests(self) -> tuple[CallRecord, ...]:
        """The last 1000 requests, oldest first."""
        return self.log.records()

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The active faults, in the order in which they are examined."""
        return self.book.active()

    @property
    def credentials(self) -> Mapping[str, Credential]:
        """The credentials that may sign requests, by access key ID."""
        return MappingProxyType(self._credentials)

    def calls_for(self, key_id: str) -> Mapping[str, int]:
        """Return how often each operation was requested for one key, given by ID or ARN."""
        return MappingProxyType(self.log.counts(key_id.rpartition("/")[2]))

    def reset_calls(self) -> None:
        """Forget the counts and the requests."""
        self.log.reset()

    def add_fault(self, kind: FaultKind | str, *, operation: str = ANY, **options: Any) -> Fault:
        """Add a fault after the active ones.

        Args:
            kind: a FaultKind or its value.
            operation: the operation that fails; `*` for all.
            options: the other attributes of Fault: key_id, times, seconds, type, status, message, retry_after, after.

        Raises:
            ValueError: the kind does not exist, or the options do not fit it.
            TypeError: an option does not exist.
        """
        return self.arm(Fault(kind=FaultKind(kind), operation=operation, **options))

    def arm(self, fault: Fault) -> Fault:
        """Add a fault object, and return it."""
        self.book.add(fault)
        return fault

    def clear_faults(self) -> None:
        """Remove all faults. Keys that were hidden stay hidden for their time."""
        self.book.clear()

    def set_key_state(self, key_id: str, state: KeyState) -> None:
        """Put a key into any state, such as Creating, which is rare at AWS.

        Args:
            key_id: an id or ARN.
            state: the state. PendingDeletion that is set in this way does not end.

        Raises:
            KeyError: the key does not exist.
        """
        key = self.store.find(key_id)
        if key is None:
            raise KeyError(f"no key {key_id}")
        key.state = state
        key.deletion_time = None

    def mark_imported(self, key_id: str) -> None:
        """Have a key say that its material was imported.

        Raises:
            KeyError: the key does not exist.
        """
        key = self.store.find(key_id)
        if key is None:
            raise KeyError(f"no key {key_id}")
        key.origin = "EXTERNAL"

    def add_credential(self, credential: Credential) -> None:
        """Permit another access key to sign requests, or replace the one with the same ID."""
        self._credentials[credential.access_key] = credential

    def expire_credential(self, access_key: str) -> None:
        """Answer requests of an access key with ExpiredTokenException from now on.

        Raises:
            KeyError: the access key does not exist.
        """
        self.add_credential(replace(self._credentials[access_key], expire_time=time.time()))

    def advance_clock(self, seconds: float) -> None:
        """Move the clock of the keys (creation, visibility, deletion). Signatures of requests depend on the wall clock."""
        self.store.clock.advance(seconds)
