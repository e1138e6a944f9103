"""Showing, rotating and revoking keys: authorised, done and audited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import reduce
from typing import Any, Final, TypeVar

from sealwright.access.grants import Authoriser
from sealwright.access.settings import Role
from sealwright.audit.writer import AuditUnavailableError, AuditWriter
from sealwright.calls import Call
from sealwright.errors import (
    CallerNotPermittedError,
    InternalError,
    IssuerNotFoundError,
    RequestInvalidError,
    SealwrightError,
    Violation,
)
from sealwright.issuer_settings import IssuerSettings
from sealwright.keys.keyring import Keyring
from sealwright.keys.lifecycle import Key
from sealwright.keys.operations import KeyOperations, Revocation

T = TypeVar("T")
Begin = Callable[[], Awaitable[None]]

_READERS: Final = frozenset({Role.AUDITOR, Role.ROTATOR, Role.REVOKER, Role.REGISTRAR})
_ANY: Final = frozenset(Role)
_MAX_REASON: Final = 1024


class Administration:
    """What callers may do to keys.

    Each decision leaves an audit record. A change leaves two: one that is durable before anything changes, and its outcome; and it
    is carried to its end even if its caller leaves, since half a revocation is none.
    """

    def __init__(
        self,
        *,
        keyring: Keyring,
        operations: KeyOperations,
        authoriser: Authoriser,
        audit: AuditWriter,
    ) -> None:
        self._keyring = keyring
        self._operations = operations
        self._authoriser = authoriser
        self._audit = audit
        self._changes: set[asyncio.Task[Any]] = set()

    def now(self) -> datetime:
        """Return the time that the keys' states are told by."""
        return self._keyring.now()

    async def list_issuers(self, call: Call) -> list[IssuerSettings]:
        """Return the issuers that the caller has a role for."""
        async with self._audited(call, "list_issuers", {}):
            return [i for i in self._keyring.settings.values() if self._authoriser.allows(call.caller, _ANY, i.name)]

    async def get_issuer(self, call: Call, issuer: str) -> IssuerSettings:
        """Return an issuer."""
        async with self._audited(call, "get_issuer", {"issuer": issuer}):
            return self._permitted(call, issuer, _ANY)

    async def list_keys(self, call: Call, issuer: str) -> Sequence[Key]:
        """Return the keys of an issuer, by series and place."""
        async with self._audited(call, "list_keys", {"issuer": issuer}):
            self._permitted(call, issuer, _READERS)
            return self._keyring.view(issuer).state.keys

    async def rotate(self, call: Call, issuer: str, *, series: str, expected_kid: str, dry_run: bool) -> Sequence[Key]:
        """See `KeyOperations.rotate`."""
        details = {"issuer": issuer, "series": series, "expected_kid": expected_kid, "validate_only": dry_run}

        async def work() -> Sequence[Key]:
            async with self._audited(call, "rotate", details) as begin:
                self._permitted(call, issuer, {Role.ROTATOR})
                if not dry_run:
                    await begin()
                return await self._operations.rotate(issuer, series=series, expected_kid=expected_kid, dry_run=dry_run)

        return await self._to_its_end(work())

    async def revoke(
        self,
        call: Call,
        *,
        issuer: str,
        kid: str,
        provider: str,
        reason: str,
        dry_run: bool,
    ) -> Revocation:
        """See `KeyOperations.revoke`: one key of an issuer, or a provider's keys in all issuers."""
        details = {
            "issuer": issuer,
            "kid": kid,
            "provider": provider,
            "why": reason[:_MAX_REASON],
            "validate_only": dry_run,
        }

        async def work() -> Revocation:
            async with self._audited(call, "revoke", details) as begin:
                if kid:
                    self._permitted(call, issuer, {Role.REVOKER})
                _check_revocation(kid, provider, reason)
                if kid:
                    if not dry_run:
                        await begin()
                    return await self._operations.revoke(issuer, kid=kid, dry_run=dry_run)
                issuers = self._issuers_of(call, provider)
                if not dry_run:
                    await begin()
                return await self._revoke_all(issuers, provider, dry_run=dry_run)

        return await self._to_its_end(work())

    async def idle(self) -> None:
        """Return when no change is under way any more."""
        while self._changes:
            await asyncio.wait(self._changes)

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        change = asyncio.create_task(work)
        self._changes.add(change)
        change.add_done_callback(self._ended)
        return await asyncio.shield(change)

    def _ended(self, change: asyncio.Task[Any]) -> None:
        self._changes.discard(change)
        if not change.cancelled():
            change.exception()  # seen here, where nobody waits for it any more

    def _issuers_of(self, call: Call, provider: str) -> list[str]:
        """Return the issuers with keys at a provider; the caller must be a revoker of each."""
        issuers = [
            i.name
            for i in self._keyring.settings.values()
            if any(k.provider == provider for k in self._keyring.view(i.name).state.keys)
        ]
        allowed = [i for i in issuers if self._authoriser.allows(call.caller, {Role.REVOKER}, i)]
        if not issuers or allowed != issuers:
            raise CallerNotPermittedError("no grant allows this request")
        return issuers

    async def _revoke_all(self, issuers: Sequence[str], provider: str, *, dry_run: bool) -> Revocation:
        done = [await self._operations.revoke(i, provider=provider, dry_run=dry_run) for i in issuers]
        return reduce(_sum, done)

    def _permitted(self, call: Call, issuer: str, roles: Collection[Role]) -> IssuerSettings:
        """Return the issuer if the caller has one of the roles for it; who may not know of an issuer is told so first."""
        self._authoriser.require(call.caller, roles, issuer)
        settings = self._keyring.settings.get(issuer)
        if settings is None:
            raise IssuerNotFoundError("no such issuer")
        return settings

    @asynccontextmanager
    async def _audited(self, call: Call, event: str, details: dict[str, Any]) -> AsyncIterator[Begin]:
        """Write the record of a decision when it is known. What is yielded writes one more, before a change begins."""
        entry = {"request_id": call.request_id, "caller": call.caller, "peer": call.peer} | details

        async def begin() -> None:
            await self._write(event, entry | {"outcome": "begun", "reason": ""})

        try:
            yield begin
        except SealwrightError as error:
            outcome = "denied" if isinstance(error, CallerNotPermittedError) else "failed"
            await self._write(event, entry | {"outcome": outcome, "reason": error.reason})
            raise
        except Exception:
            await self._write(event, entry | {"outcome": "failed", "reason": InternalError.reason})
            raise
        await self._write(event, entry | {"outcome": "allowed", "reason": ""})

    async def _write(self, event: str, entry: dict[str, Any]) -> None:
        try:
            await self._audit.write(event, entry)
        except AuditUnavailableError:
            raise InternalError("the audit record could not be written") from None


def _check_revocation(kid: str, provider: str, reason: str) -> None:
    violations = []
    if bool(kid) == bool(provider):
        violations.append(Violation("name", "either a key or a provider must be named, and not both"))
    if not reason or len(reason) > _MAX_REASON:
        violations.append(Violation("reason", f"must be given, in at most {_MAX_REASON} characters"))
    if violations:
        raise RequestInvalidError(violations)


def _sum(a: Revocation, b: Revocation) -> Revocation:
    return replace(
        a,
        keys=[*a.keys, *b.keys],
        live_tokens=a.live_tokens + b.live_tokens,
        verifier_cache_until=max(a.verifier_cache_until, b.verifier_cache_until),
        stale_replicas=sorted({*a.stale_replicas, *b.stale_replicas}),
        warnings=[*a.warnings, *b.warnings],
    )
