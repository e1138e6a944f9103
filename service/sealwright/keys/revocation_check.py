"""Whether a key that its KMS refuses was revoked.

A KMS may hear of a revocation by another replica before this one reads of it. So a refusal lets the store be read. Callers wait for
that, though not for long: if the key was revoked, they are to try again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from sealwright.clock import Clock
from sealwright.keys.issuer import SigningKey
from sealwright.keys.keyring import Keyring
from sealwright.keys.ports import StoreUnavailableError

log = logging.getLogger(__name__)

WAIT_SECONDS: Final = 0.5
"""How long a check waits for the store. The read goes on after that."""
AGAIN_SECONDS: Final = 1.0
"""A key that is still refused for the same reason is checked again after so long."""
_GAP_SECONDS: Final = 0.1
"""Between two reads, however many keys are refused."""


@dataclass(frozen=True, slots=True)
class _Check:
    reason: str
    begun: float
    task: asyncio.Task[None]


class RevocationCheck:
    """Checks keys. Those that are refused at the same time share a read of the store."""

    def __init__(self, keyring: Keyring, refresh: Callable[[], Awaitable[None]], clock: Clock) -> None:
        """Prepare.

        Args:
            keyring: The keys.
            refresh: Brings the keyring up to date with the store, or raises StoreUnavailableError.
            clock: The clock.
        """
        self._keyring = keyring
        self._refresh = refresh
        self._clock = clock
        self._checks: dict[str, _Check] = {}
        self._reading: asyncio.Task[None] | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._read_begun = float("-inf")

    def gone(self, key: SigningKey) -> bool:
        """Return whether a key was revoked or withdrawn, as far as this replica has read."""
        issuer = self._keyring.find(key.record.issuer)
        return issuer is None or issuer.trusted(key.kid) is None

    def begin(self, key: SigningKey, reason: str) -> asyncio.Task[None] | None:
        """Check a key that its KMS refuses.

        Args:
            key: The key.
            reason: Why it is refused. Another reason is another check.

        Returns:
            What ends, within `WAIT_SECONDS`, when `gone` is up to date; None: it is.
        """
        if self.gone(key):
            return None
        now, known = self._clock.elapsed(), self._checks.get(key.kid)
        if known is None or known.reason != reason or (known.task.done() and now - known.begun >= AGAIN_SECONDS):
            task = asyncio.create_task(_end_of(self._next_read()))
            self._checks[key.kid] = _Check(reason, now, task)
        return self.pending(key)

    def pending(self, key: SigningKey) -> asyncio.Task[None] | None:
        """Return the check of a key that is under way; None: there is none."""
        known = self._checks.get(key.kid)
        return None if known is None or known.task.done() else known.task

    def prune(self) -> None:
        """Forget the checks that count no longer."""
        now = self._clock.elapsed()
        old = [kid for kid, c in self._checks.items() if c.task.done() and now - c.begun >= AGAIN_SECONDS]
        for kid in old:
            del self._checks[kid]

    def _next_read(self) -> asyncio.Task[None]:
        """Return a read that begins from now on. One is under way and one waits, at most."""
        if self._waiting is None:
            self._waiting = asyncio.create_task(self._read_after(self._reading))
        return self._waiting

    async def _read_after(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        await asyncio.sleep(self._read_begun + _GAP_SECONDS - self._clock.elapsed())
        self._reading, self._waiting, self._read_begun = self._waiting, None, self._clock.elapsed()
        try:
            await self._refresh()
        except StoreUnavailableError as error:
            log.debug("the store cannot be asked for revocations: %s", error)
        except Exception:
            log.exception("the store cannot be asked for revocations")

    def stop(self) -> None:
        """End all reads."""
        for task in (self._reading, self._waiting):
            if task is not None:
                task.cancel()


async def _end_of(read: asyncio.Task[None]) -> None:
    await asyncio.wait([read], timeout=WAIT_SECONDS)
