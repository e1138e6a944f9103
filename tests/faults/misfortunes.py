"""Faults of each kind of backend, at random: about a fifth of its calls fail in one of all the ways that its emulator knows."""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from contract.cryptoki_tap import CryptokiTap
from sealwright_testing.emulators.aws import AwsEmulator
from sealwright_testing.emulators.azure import AzureEmulator
from sealwright_testing.emulators.gcp import GcpEmulator
from sealwright_testing.pkcs11_faults import Call, FaultyModule

SHARE = 0.2
_TICK_SECONDS = 0.004
_BURST_CHANCE = 0.004
_BURST = 8
"""More failures in a row than the circuit breaker bears."""

_MOST_AT_ONCE = 10
"""PKCS#11: the most calls that one fault counts for. A delay stops all sessions, and would otherwise use up the share."""

Options = Mapping[str, Any]
DELAYS: Sequence[Options] = (
    {"kind": "delay", "seconds": 0.05},
    {"kind": "delay", "seconds": 0.4, "after": True},
    {"kind": "delay", "seconds": 2.5},
    {"kind": "hang"},
)
AWS: Sequence[Options] = (
    *DELAYS,
    {"kind": "throttle"},
    {"kind": "throttle", "retry_after": 1},
    {"kind": "throttle", "type": "LimitExceededException"},
    *(
        {"kind": "error", "type": name}
        for name in (
            "AccessDeniedException",
            "DependencyTimeoutException",
            "DisabledException",
            "ExpiredTokenException",
            "InvalidKeyUsageException",
            "KMSInvalidStateException",
            "KeyUnavailableException",
            "NotFoundException",
            "UnrecognizedClientException",
            "ValidationException",
            "SomethingNewException",
        )
    ),
    {"kind": "http_500"},
    {"kind": "http_500", "status": 503, "type": "ServiceUnavailable"},
    {"kind": "http_500", "after": True},
    {"kind": "drop_connection"},
    {"kind": "drop_connection", "after": True},
    {"kind": "malformed_json"},
    {"kind": "wrong_signature"},
    {"kind": "truncated_signature"},
    {"kind": "other_key"},
    {"kind": "other_name"},
)
GCP: Sequence[Options] = (
    *DELAYS,
    {"kind": "throttle"},
    {"kind": "throttle", "retry_after": 1},
    *(
        {"kind": "error", "code": code}
        for code in (
            "ABORTED",
            "CANCELLED",
            "DATA_LOSS",
            "DEADLINE_EXCEEDED",
            "FAILED_PRECONDITION",
            "INTERNAL",
            "INVALID_ARGUMENT",
            "NOT_FOUND",
            "PERMISSION_DENIED",
            "UNAUTHENTICATED",
            "UNIMPLEMENTED",
            "UNKNOWN",
        )
    ),
    {"kind": "unavailable"},
    {"kind": "unavailable", "after": True},
    {"kind": "drop_connection"},
    {"kind": "malformed"},
    {"kind": "wrong_signature"},
    {"kind": "corrupted_signature"},
    {"kind": "truncated_signature"},
    {"kind": "other_key"},
    {"kind": "other_name"},
    {"kind": "wrong_crc"},
    {"kind": "no_crc"},
    {"kind": "unverified"},
)
AZURE: Sequence[Options] = (
    *DELAYS,
    {"kind": "throttle"},
    {"kind": "throttle", "retry_after": 1},
    *({"kind": "error", "status": status} for status in (400, 401, 403, 404, 405, 408, 409, 418, 429, 502, 503, 504)),
    {"kind": "deny"},
    {"kind": "challenge"},
    {"kind": "claims"},
    {"kind": "http_500"},
    {"kind": "http_500", "after": True},
    {"kind": "drop_connection"},
    {"kind": "drop_connection", "after": True},
    {"kind": "malformed_json"},
    {"kind": "wrong_signature"},
    {"kind": "corrupted_signature"},
    {"kind": "truncated_signature"},
    {"kind": "other_key"},
    {"kind": "other_name"},
)
PKCS11: Mapping[str, int] = {
    "CKR_HOST_MEMORY": 0x2,
    "CKR_GENERAL_ERROR": 0x5,
    "CKR_FUNCTION_FAILED": 0x6,
    "CKR_ACTION_PROHIBITED": 0x1B,
    "CKR_DEVICE_ERROR": 0x30,
    "CKR_DEVICE_MEMORY": 0x31,
    "CKR_DEVICE_REMOVED": 0x32,
    "CKR_FUNCTION_CANCELED": 0x50,
    "CKR_KEY_HANDLE_INVALID": 0x60,
    "CKR_KEY_TYPE_INCONSISTENT": 0x63,
    "CKR_KEY_FUNCTION_NOT_PERMITTED": 0x68,
    "CKR_MECHANISM_INVALID": 0x70,
    "CKR_OPERATION_ACTIVE": 0x90,
    "CKR_SESSION_HANDLE_INVALID": 0xB3,
    "CKR_TOKEN_NOT_PRESENT": 0xE0,
    "CKR_USER_NOT_LOGGED_IN": 0x101,
    "CKR_CRYPTOKI_NOT_INITIALIZED": 0x190,
    "CKR_VENDOR_DEFINED": 0x80000001,
}


_OF_SIGNATURES = ("corrupt", "truncate", "confuse")


class Misfortunes(ABC):
    """Makes a backend fail.

    Args:
        seed: Of what fails when.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - repeatable, no secret
        self.done: Counter[str] = Counter()

    async def run(self) -> None:
        """Make it fail until the task is cancelled, and then no longer."""
        try:
            while True:
                await self.tick()
        finally:
            self.clear()

    @abstractmethod
    async def tick(self) -> None:
        """Make it fail once, or not."""

    @abstractmethod
    def clear(self) -> None:
        """Remove all faults."""


class OfEmulator(Misfortunes):
    """Arms a fault for a fifth of the calls, each for one call. Now and then a burst opens the circuit breaker.

    Args:
        seed: Of what fails when.
        emulator: The emulator.
        operation: The operation that signs.
        faults: The options of all faults.
        burst: The options of the fault that comes in bursts.
    """

    def __init__(
        self,
        seed: int,
        emulator: AwsEmulator | GcpEmulator | AzureEmulator,
        operation: str,
        faults: Sequence[Options],
        burst: Options,
    ) -> None:
        super().__init__(seed)
        self._emulator = emulator
        self._operation = operation
        self._faults = faults
        self._burst = burst
        self._before = self._calls()
        self._deck: list[Options] = []

    async def tick(self) -> None:
        await asyncio.sleep(_TICK_SECONDS)
        while sum(self.done.values()) < SHARE * (self._calls() - self._before):
            if self.random.random() < _BURST_CHANCE:
                self._arm(self._burst, _BURST)
            else:
                self._arm(self._next(), 1)

    def clear(self) -> None:
        self._emulator.clear_faults()

    def _calls(self) -> int:
        return self._emulator.calls.get(self._operation, 0)

    def _next(self) -> Options:
        """Return the next fault of a shuffled deck, so that each one has its turn."""
        if not self._deck:
            self._deck = list(self._faults)
            self.random.shuffle(self._deck)
        return self._deck.pop()

    def _arm(self, options: Options, times: int) -> None:
        self._emulator.add_fault(operation=self._operation, times=times, **options)
        self.done["/".join(str(value) for value in options.values())] += times


class OfToken(Misfortunes):
    """Lets single calls of a PKCS#11 module fail, or all of them for some milliseconds.

    Args:
        seed: Of what fails when.
        module: The module.
        tap: Corrupts its signatures.
    """

    def __init__(self, seed: int, module: FaultyModule, tap: CryptokiTap) -> None:
        super().__init__(seed)
        self._module = module
        self._tap = tap
        self._before = self._calls()
        self._deck: list[str] = []

    async def tick(self) -> None:
        await asyncio.sleep(_TICK_SECONDS)
        while sum(self.done.values()) < SHARE * (self._calls() - self._before):
            await self._fail(self._next())

    def clear(self) -> None:
        self._tap.reset()
        self._module.mend()

    def _calls(self) -> int:
        return self._module.count(Call.SIGN_INIT)

    def _next(self) -> str:
        """Return the next fault of a shuffled deck, so that each one has its turn."""
        if not self._deck:
            self._deck = [*PKCS11, *_OF_SIGNATURES, "delay"]
            self.random.shuffle(self._deck)
        return self._deck.pop()

    async def _fail(self, what: str) -> None:
        before = self._calls()
        match what:
            case _ if what in _OF_SIGNATURES:
                setattr(self._tap, what, True)
                await self._later(3)
                setattr(self._tap, what, False)
            case "delay":
                self._module.delay(Call.SIGN, self.random.choice((50, 2500)))
                await asyncio.sleep(self.random.choice((0.1, 0.4)))
                self._module.delay(Call.SIGN, 0)
            case _:
                # Not C_Sign: its errors end the operation (v2.40 §5.11), and the module could not do that in place of SoftHSM.
                self._module.fail(Call.SIGN_INIT, PKCS11[what], 1)
                await self._later(1)
        self.done[what] += min(max(1, self._calls() - before), _MOST_AT_ONCE)

    async def _later(self, calls: int) -> None:
        """Wait for some calls, but not long, since there may be none."""
        before = self._calls()
        for _ in range(20):
            if self._calls() >= before + calls:
                return
            await asyncio.sleep(0.001)
