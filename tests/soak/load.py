"""Callers that want tokens all the time, and an operator who rotates and revokes by hand."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import grpc

from interop.interop_support import AUDIENCE, SUBJECT
from sealwright.v1.keys_pb2 import Key, ListKeysRequest, RevokeKeysRequest, RotateKeysRequest
from sealwright.v1.signing_pb2 import SignJwtRequest
from support.service import Failure

from .hosts import CACHED, ISSUERS, LIFETIME, PROVIDERS, SERIES, SERVE_AGE, SKEW, STALENESS, Host
from .ledger import Ledger, Token

CALLERS = 6
HASTY_CALLERS = 1
"""So few that no token waits for its verifiers, on a slow machine either."""
_PAUSE = 0.25
_TIMEOUT = 4.0
_RECOVERY = 3.0
"""Seconds in which a breaker may still refuse calls to a KMS that is well again."""
_HAND_SECONDS = (0.2, 1.2)
_HASTY_SECONDS = (0.02, 0.2)
_REVOKE_EVERY = 8
EXPECTED = frozenset(
    {
        "STATE_TOO_OLD",
        "NO_ACTIVE_KEY",
        "PROVIDER_UNAVAILABLE",
        "PROVIDER_TIMEOUT",
        "PROVIDER_THROTTLED",
        "OVERLOADED",
        "SHUTTING_DOWN",
        "ROTATION_TOO_EARLY",
        "UNAVAILABLE",
        "DEADLINE_EXCEEDED",
        "CANCELLED",
    }
)
"""What a caller may meet while everything fails: reasons of the service, and codes of the connection. Another one is a fault."""


@dataclass
class Load:
    """What asks the service.

    Attributes:
        hosts: Whom it asks; the caller picks one at random for each call.
        ledger: Takes notes.
        rng: Picks.
        on_token: Receives each token at once.
        hasty: Whether the operator looks after one issuer alone and more often, and asks for a token of a new key at once, before
            verifiers fetch it by chance.
    """

    hosts: Sequence[Host]
    ledger: Ledger
    rng: Random
    on_token: Callable[[Token], None]
    hasty: bool = False
    stopping: bool = False

    async def call(self) -> None:
        """Ask for tokens until the end."""
        while not self.stopping:
            await self.sign(self.rng.choice(self.hosts), self.rng.choice(list(ISSUERS)))
            await asyncio.sleep(_PAUSE * self.rng.uniform(0.5, 1.5))

    async def sign(self, host: Host, issuer: str) -> bool:
        """Ask for one token, and return whether there was one."""
        request = SignJwtRequest(issuer=f"issuers/{issuer}", claims_json="{}", subject=SUBJECT, audience=[AUDIENCE])
        request.lifetime.FromSeconds(self.rng.choice((LIFETIME, LIFETIME, LIFETIME // 2)))
        asked = time.time()
        call = host.signing.SignJwt(request, timeout=_TIMEOUT)
        answer = await self._ask(
            "tokens not released, by reason", call, lambda reason: self._blame(host, asked, reason)
        )
        if answer is None:
            return False
        token = Token(
            text=answer.token,
            jti=answer.jwt_id,
            kid=answer.kid,
            issuer=issuer,
            host=host.name,
            asked=asked,
            released=time.time(),
            expires=answer.expire_time.seconds,
        )
        self.ledger.release(token)
        self.on_token(token)
        return True

    async def operate(self) -> None:
        """Rotate by hand as soon as that is allowed, and revoke now and then, until the end."""
        number = 0
        while not self.stopping:
            await asyncio.sleep(self.rng.uniform(*(_HASTY_SECONDS if self.hasty else _HAND_SECONDS)))
            number += 1
            host, issuer = self.rng.choice(self.hosts), self.rng.choice(list(ISSUERS)[: 1 if self.hasty else None])
            listed = await self._ask("changes refused, by reason", self._list(host, issuer))
            if listed is None:
                continue
            if number % _REVOKE_EVERY == 0:
                await self._revoke(issuer, listed)
            else:
                await self._rotate(issuer, listed)

    async def _list(self, host: Host, issuer: str) -> list[Key]:
        return list((await host.keys.ListKeys(ListKeysRequest(parent=f"issuers/{issuer}"), timeout=_TIMEOUT)).keys)

    def _known_from(self, key: Key) -> float:
        """Return when verifiers have a key, whatever its `ready_time`.

        A rotation by hand waits for the lead alone. A replica that has been cut off for longer than `max_staleness` goes on serving
        old sets, and an operator is expected to look for such replicas first (docs/decisions/0002).
        """
        published = key.publish_time.ToNanoseconds() / 1e9
        return self.ledger.old_set_served(published, STALENESS, SERVE_AGE) + CACHED + SKEW

    def _may_rotate(self, keys: Sequence[Key], head: Key) -> bool:
        """Return whether the standby of an active key may sign, and verifiers have it."""
        heir = _standby(keys, head.series)
        return heir is not None and _ready_time(heir) <= time.time() and self._known_from(heir) <= time.time()

    def _may_revoke(self, keys: Sequence[Key], head: Key) -> bool:
        """Return whether a key is out of use, or verifiers have those that sign after it: now, and when its standby is ready."""
        if head.state != Key.STATE_ACTIVE:
            return head.state in {Key.STATE_STANDBY, Key.STATE_RETIRED, Key.STATE_WITHDRAWN}
        heir = _standby(keys, head.series)
        others = [k for k in keys if k.state == Key.STATE_ACTIVE and k.series != head.series]
        if heir is None or self._known_from(heir) > max(time.time(), _ready_time(heir)):
            return False
        return bool(others) or _ready_time(heir) <= time.time()

    async def _rotate(self, issuer: str, keys: Sequence[Key]) -> None:
        active = [k for k in keys if k.state == Key.STATE_ACTIVE and self._may_rotate(keys, k)]
        if not active:
            return
        head = _preferred(active) if self.hasty else self.rng.choice(active)
        host = self.rng.choice(self.hosts)
        request = RotateKeysRequest(issuer=f"issuers/{issuer}", series=head.series, expected_kid=head.kid)
        if await self._ask("changes refused, by reason", host.keys.RotateKeys(request, timeout=_TIMEOUT)) is not None:
            self.ledger.count("changes by hand", "rotations")
            if self.hasty:
                await self.sign(host, issuer)

    async def _revoke(self, issuer: str, keys: Sequence[Key]) -> None:
        """Revoke a key."""
        able = [k for k in keys if self._may_revoke(keys, k)]
        if able:
            await self.revoke(issuer, self.rng.choice(able))

    async def revocable_signer(self, issuer: str, provider: str) -> Key | None:
        """Return the key that signs for an issuer, if it is at that KMS and may be revoked."""
        listed = await self._ask("changes refused, by reason", self._list(self.rng.choice(self.hosts), issuer)) or []
        active = [k for k in listed if k.state == Key.STATE_ACTIVE]
        head = _preferred(active) if active else None
        return head if head is not None and head.provider == provider and self._may_revoke(listed, head) else None

    async def revoke(self, issuer: str, key: Key) -> None:
        """Revoke a key."""
        host = self.rng.choice(self.hosts)
        request = RevokeKeysRequest(name=key.name, reason="a drill")
        self.ledger.revoked.setdefault(key.kid, time.time())
        answer = await self._ask("changes refused, by reason", host.keys.RevokeKeys(request, timeout=10))
        if answer is None:
            return
        self.ledger.count("changes by hand", f"revocations of a key that is {Key.State.Name(key.state)[6:].lower()}")
        # A replica that has not confirmed it may release tokens until its read of the store is too old.
        late = STALENESS if answer.stale_replicas else 0
        self.ledger.confirmed.setdefault(key.kid, time.time() + late)
        if any("young" in warning for warning in answer.warnings):
            self.ledger.count("changes by hand", "young standbys made ready")
            listed = await self._ask("changes refused, by reason", self._list(host, issuer))
            self.ledger.hurried |= {k.kid for k in listed or [] if k.state != Key.STATE_REVOKED}

    def _blame(self, host: Host, asked: float, reason: str) -> bool:
        """Return whether a caller may get no token for a reason.

        Count errors of a KMS for callers whom the other one could have served, unless its key was revoked a moment before.
        """
        if reason.startswith("PROVIDER_") and any(
            self.ledger.was_well(host.name, kms, asked - _RECOVERY) for kms in PROVIDERS
        ):
            self.ledger.count("tokens not released, by reason", f"of these {reason}, while the other KMS was well")
        # A host that cannot read the store cannot know why the KMS refuses a key.
        return reason in EXPECTED or (reason == "PROVIDER_KEY_DISABLED" and self.ledger.in_trouble(host.name, asked))

    async def _ask(
        self, group: str, call: Awaitable[object], is_expected: Callable[[str], bool] = EXPECTED.__contains__
    ) -> Any:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            failure = Failure(error)
            reason = failure.reason or failure.code
            self.ledger.count(group, reason)
            if not is_expected(reason):
                self.ledger.violate("an error that no caller should see", f"{reason}: {failure.message}")
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.02)
            return None


def _preferred(active: Sequence[Key]) -> Key:
    """Return the active key that signs: that of the series that comes first."""
    return min(active, key=lambda k: SERIES.index(k.series))


def _standby(keys: Sequence[Key], series: str) -> Key | None:
    return next((k for k in keys if k.series == series and k.state == Key.STATE_STANDBY), None)


def _ready_time(key: Key) -> float:
    return key.ready_time.ToNanoseconds() / 1e9 if key.HasField("ready_time") else float("inf")
