"""Readiness: which issuers can sign, and which may yet be able to if one waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from sealwright.clock import Clock
from sealwright.keys import lifecycle
from sealwright.keys.health import KeyHealth
from sealwright.keys.issuer import Issuer, SigningKey
from sealwright.keys.keyring import Keyring

log = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.02


class Readiness:
    """Answers health checks, and lets the start wait."""

    def __init__(
        self,
        keyring: Keyring,
        health: KeyHealth,
        failing: Mapping[str, str],
        clock: Clock,
        blocked: Callable[[], str | None],
    ) -> None:
        """Prepare.

        Args:
            keyring: What the replica signs with.
            health: What callers met in the last seconds.
            failing: Why keys of an issuer cannot be created, by issuer (`KeyCreation.failing`).
            clock: For the wait.
            blocked: Returns why nothing can be signed at all; None: nothing is blocked.
        """
        self._keyring = keyring
        self._health = health
        self._blocked = blocked
        self._failing = failing
        self._clock = clock
        self._logged: dict[str, str] = {}
        self._sound: dict[str, Sequence[SigningKey]] = {}

    def problem(self, name: str) -> str | None:
        """Return why callers cannot have a token of an issuer now; None: as far as is known, they can."""
        blocked = self._blocked()
        if blocked is not None:
            return blocked
        issuer = self._keyring.find(name)
        if issuer is None:
            return self._keyring.unread
        if issuer.stale is not None:
            return self._keyring.refused or issuer.stale
        return self._trouble(issuer)

    def _trouble(self, issuer: Issuer) -> str | None:
        signers, calm = issuer.possible_signers(), self._health.calm
        if calm and signers is self._sound.get(issuer.name):
            return None
        for algorithm in dict.fromkeys(s.algorithm for s in issuer.settings.series):
            keys = issuer.choice(algorithm).keys
            if not keys:
                return f"no {algorithm} key may sign now"
            troubles = [self._health.trouble(k) for k in keys]
            if all(troubles):
                return f"{algorithm}: {troubles[0]}"
        if calm:
            # With thousands of issuers, looking at each key again every second would cost more than everything else.
            self._sound[issuer.name] = signers
        return None

    def can_sign(self, name: str) -> bool:
        """Return whether callers can have a token of each algorithm of the issuer."""
        return self.problem(name) is None

    def providers(self) -> dict[str, bool]:
        """Return which providers answer, by name."""
        return self._health.providers()

    def problems(self) -> dict[str, str | None]:
        """Return `problem` of every issuer."""
        calm = self._health.calm and self._blocked() is None
        steady, sound = self._keyring.steady_signers() if calm else {}, self._sound
        names = [i.name for i in self._keyring.issuers]
        return {n: None if n in steady and steady[n] is sound.get(n) else self.problem(n) for n in names}

    def log_changes(self, problems: Mapping[str, str | None]) -> None:
        """Log, once, that an issuer cannot sign and why, and once that it can again."""
        for settings in self._keyring.issuers:
            problem = problems[settings.name]
            before = self._logged.get(settings.name)
            if problem is not None and problem != before:
                log.warning("issuer %s cannot sign: %s", settings.name, problem)
                self._logged[settings.name] = problem
            elif problem is None and before is not None:
                log.info("issuer %s can sign again", settings.name)
                del self._logged[settings.name]

    def unable(self) -> list[str]:
        """Return the names of the issuers that cannot sign now."""
        return [name for name, problem in self.problems().items() if problem is not None]

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
        if name in self._failing or self._keyring.refused is not None:
            return False
        issuer = self._keyring.find(name)
        queued = [k for k in issuer.state.keys if lifecycle.queued(k)] if issuer else []
        if not queued:
            return any(s.create for s in self._keyring.settings(name).series)
        return any(k.ready_time is None for k in queued)
