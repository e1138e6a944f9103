"""Readiness: which issuers can sign, and which may yet be able to if one waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from sealwright.clock import Clock
from sealwright.keys import lifecycle
from sealwright.keys.keyring import Keyring

_POLL_SECONDS: Final = 0.02


class Readiness:
    """Answers health checks, and lets the start wait."""

    def __init__(
        self, keyring: Keyring, failing: Mapping[str, str], clock: Clock, blocked: Callable[[], str | None]
    ) -> None:
        """Prepare.

        Args:
            keyring: What the replica signs with.
            failing: Why keys of an issuer cannot be created, by issuer (`KeyCreation.failing`).
            clock: For the wait.
            blocked: Returns why nothing can be signed at all; None: nothing is blocked.
        """
        self._keyring = keyring
        self._blocked = blocked
        self._failing = failing
        self._clock = clock

    def can_sign(self, name: str) -> bool:
        """Return whether each algorithm of the issuer has a key that may sign now."""
        issuer = self._keyring.find(name)
        return issuer is not None and issuer.can_sign and self._blocked() is None

    @property
    def blocked(self) -> str | None:
        """Why nothing can be signed at all; None: nothing is blocked."""
        return self._blocked()

    def unable(self) -> list[str]:
        """Return the names of the issuers that cannot sign now."""
        return [i.name for i in self._keyring.issuers if not self.can_sign(i.name)]

    async def wait(self, seconds: float) -> None:
        """Wait until every issuer can sign, or is blocked by something that waiting will not fix soon.

        Such a block is a KMS that refuses to create keys, or keys whose lead is not over.

        Args:
            seconds: Longest wait.
        """
        end = self._clock.elapsed() + seconds
        # Polled, because keys also become ready without any event.
        while self._clock.elapsed() < end and any(self._may_yet_sign(name) for name in self.unable()):  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS)

    def _may_yet_sign(self, name: str) -> bool:
        if name in self._failing:
            return False
        issuer = self._keyring.find(name)
        queued = [k for k in issuer.state.keys if lifecycle.queued(k)] if issuer else []
        if not queued:
            return any(s.create for s in self._keyring.settings(name).series)
        return any(k.ready_time is None for k in queued)
