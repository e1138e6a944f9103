"""Showing, rotating and revoking keys: authorised, done and audited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

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
from sealwright.keys.keyring import Keyring
from sealwright.keys.lifecycle import Key
from sealwright.keys.operations import KeyOperations, Revocation
from sealwright.keys.settings import IssuerSettings

_READERS: Final = frozenset({Role.AUDITOR, Role.ROTATOR, Role.REVOKER, Role.REGISTRAR})
_ANY: Final = frozenset(Role)
_MAX_REASON: Final = 1024


class Administration:
    """What callers may do to keys. Each decision leaves an audit record, durable before it takes effect."""

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
        async with self._audited(call, "rotate", details):
            self._permitted(call, issuer, {Role.ROTATOR})
            return await self._operations.rotate(issuer, series=series, expected_kid=expected_kid, dry_run=dry_run)

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
        async with self._audited(call, "revoke", details):
            if kid:
                self._permitted(call, issuer, {Role.REVOKER})
            violations = []
            if bool(kid) == bool(provider):
                violations.append(Violation("name", "either a key or a provider must be named, and not both"))
            if not reason or len(reason) > _MAX_REASON:
                violations.append(Violation("reason", f"must be given, in at most {_MAX_REASON} characters"))
            if violations:
                raise RequestInvalidError(f"{violations[0].field}: {violations[0].description}", violations=violations)
            if kid:
                return await self._operations.revoke(issuer, kid=kid, dry_run=dry_run)
            return await self._revoke_provider(call, provider, dry_run=dry_run)

    async def _revoke_provider(self, call: Call, provider: str, *, dry_run: bool) -> Revocation:
        issuers = [
            i.name
            for i in self._keyring.settings.values()
            if any(k.provider == provider for k in self._keyring.view(i.name).state.keys)
        ]
        allowed = [i for i in issuers if self._authoriser.allows(call.caller, {Role.REVOKER}, i)]
        if not issuers or allowed != issuers:
            raise CallerNotPermittedError("no grant allows this request")
        total: Revocation | None = None
        for issuer in issuers:
            one = await self._operations.revoke(issuer, provider=provider, dry_run=dry_run)
            total = one if total is None else _sum(total, one)
        if total is None:
            raise InternalError("nothing was revoked")
        return total

    def _permitted(self, call: Call, issuer: str, roles: Collection[Role]) -> IssuerSettings:
        """Return the issuer if the caller has one of the roles for it; who may not know of an issuer is told so first."""
        self._authoriser.require(call.caller, roles, issuer)
        settings = self._keyring.settings.get(issuer)
        if settings is None:
            raise IssuerNotFoundError("no such issuer")
        return settings

    @asynccontextmanager
    async def _audited(self, call: Call, event: str, details: dict[str, Any]) -> AsyncIterator[None]:
        """Write the record of a decision when it is known; for changes the keys' own records follow."""
        entry = {"request_id": call.request_id, "caller": call.caller, "peer": call.peer} | details
        try:
            yield
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


def _sum(a: Revocation, b: Revocation) -> Revocation:
    return replace(
        a,
        keys=[*a.keys, *b.keys],
        live_tokens=a.live_tokens + b.live_tokens,
        verifier_cache_until=max(a.verifier_cache_until, b.verifier_cache_until),
        stale_replicas=sorted({*a.stale_replicas, *b.stale_replicas}),
        warnings=[*a.warnings, *b.warnings],
    )
