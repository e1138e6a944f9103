"""The emulated AWS KMS without the network: its keys and credentials, the faults to inject, and the log of calls."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from .calls import CallLog, CallRecord
from .faults import ANY, Fault, FaultBook, FaultKind
from .keys import KeySummary
from .operations.call import Strangers
from .sigv4 import Credential
from .specs import KeyState
from .store import Clock, KeyStore


class AwsBackend:
    """AWS KMS of one account in one Region. All methods may be called from any thread.

    Args:
        region: the Region whose keys these are, and that signatures must name.
        account: the account of twelve digits whose keys these are.
        access_key: the ID of the access key that may sign requests.
        secret_key: its secret.
    """

    def __init__(self, *, region: str, account: str, access_key: str, secret_key: str) -> None:
        self.region = region
        self.account = account
        self.access_key = access_key
        self.secret_key = secret_key
        self.store = KeyStore(account=account, region=region, clock=Clock())
        self.book = FaultBook()
        self.log = CallLog()
        self.strangers = Strangers()
        self._credentials = {access_key: Credential(access_key=access_key, secret_key=secret_key)}

    @property
    def keys(self) -> Mapping[str, KeySummary]:
        """All keys by id, in order of creation; hidden ones too, those whose deletion is over not."""
        return MappingProxyType(dict(self.store.summaries()))

    @property
    def calls(self) -> Mapping[str, int]:
        """How often each operation was asked for since the start or `reset_calls`, refused requests too."""
        return MappingProxyType(self.log.counts())

    @property
    def requests(self) -> tuple[CallRecord, ...]:
        """The last 1000 requests, oldest first."""
        return self.log.records()

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The faults in force, in the order in which they are looked at."""
        return self.book.active()

    @property
    def credentials(self) -> Mapping[str, Credential]:
        """Who may sign requests, by access key id."""
        return MappingProxyType(self._credentials)

    def calls_for(self, key_id: str) -> Mapping[str, int]:
        """Return how often each operation was asked for with one key, given by id or ARN."""
        return MappingProxyType(self.log.counts(key_id))

    def reset_calls(self) -> None:
        """Forget the counts and the requests."""
        self.log.reset()

    def add_fault(self, kind: FaultKind | str, *, operation: str = ANY, **options: Any) -> Fault:
        """Arm a fault, after those that are armed already.

        Args:
            kind: what goes wrong: a FaultKind or its value.
            operation: for which operation; `*` for all.
            options: the other attributes of Fault: key_id, times, seconds, type, status, message, retry_after, after.

        Raises:
            ValueError: the kind is none, or the options make no sense with it.
            TypeError: an option is none.
        """
        return self.arm(Fault(kind=FaultKind(kind), operation=operation, **options))

    def arm(self, fault: Fault) -> Fault:
        """Arm a fault that was made before, and return it."""
        self.book.add(fault)
        return fault

    def clear_faults(self) -> None:
        """Disarm all faults. Keys that were hidden stay hidden for their time."""
        self.book.clear()

    def set_key_state(self, key_id: str, state: KeyState) -> None:
        """Put a key into any state, such as Creating, which an AWS KMS key of this kind rarely is.

        Args:
            key_id: an id or ARN.
            state: the state. PendingDeletion set in this way has no end.

        Raises:
            KeyError: there is no such key.
        """
        key = self.store.find(key_id)
        if key is None:
            raise KeyError(f"no key {key_id}")
        key.state = state
        key.deletion_time = None

    def add_credential(self, credential: Credential) -> None:
        """Let one more access key sign requests, or replace the one of the same id."""
        self._credentials[credential.access_key] = credential

    def expire_credential(self, access_key: str) -> None:
        """Answer requests of an access key with ExpiredTokenException from now on.

        Raises:
            KeyError: there is no such access key.
        """
        self.add_credential(replace(self._credentials[access_key], expire_time=time.time()))

    def advance_clock(self, seconds: float) -> None:
        """Move the clock that keys live by: creation, visibility, deletion. Signatures go by the wall clock."""
        self.store.clock.advance(seconds)
