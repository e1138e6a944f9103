"""KeyService: permission, the `begun` record of a change, and the translation to and from protobuf."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from sealwright.access.grants import Authoriser
from sealwright.access.settings import Role
from sealwright.audit.decisions import Decision
from sealwright.errors import CallerNotPermittedError, RequestInvalidError, Violation
from sealwright.issuer_settings import IssuerSettings
from sealwright.keys import lifecycle
from sealwright.keys.issuer import Issuer
from sealwright.keys.keyring import Keyring
from sealwright.keys.operations import KeyOperations, ShownKey, shown
from sealwright.keys.revocation import AllKeysOf, KeyRevocation, OneKey, Scope
from sealwright.server.rpc.names import issuer_name, key_name, parse_issuer, parse_key
from sealwright.v1 import keys_pb2, keys_pb2_grpc

T = TypeVar("T")

_DEFAULT_PAGE: Final = 100
_MAX_PAGE: Final = 1000
_MAX_REASON: Final = 1024
_READERS: Final = frozenset({Role.AUDITOR, Role.ROTATOR, Role.REVOKER})
_ANY: Final = frozenset(Role)
_ROTATORS: Final = frozenset({Role.ROTATOR})
_REVOKERS: Final = frozenset({Role.REVOKER})


_RECENT: Final = timedelta(seconds=2)
_SETTLING_SECONDS: Final = 0.02
_SETTLING_LOOKS: Final = 25


class KeyService(keys_pb2_grpc.KeyServiceServicer):
    """Shows, rotates and revokes keys.

    Permission is checked first, so that a caller without access cannot find out whether an issuer exists.
    """

    def __init__(
        self, *, keyring: Keyring, operations: KeyOperations, revocation: KeyRevocation, authoriser: Authoriser
    ) -> None:
        self._keyring = keyring
        self._operations = operations
        self._revocation = revocation
        self._authoriser = authoriser

    async def ListIssuers(  # noqa: N802 - the name in the proto
        self, request: keys_pb2.ListIssuersRequest, decision: Decision
    ) -> keys_pb2.ListIssuersResponse:
        """See keys.proto."""
        caller = decision.call.caller
        issuers = [i for i in self._keyring.issuers if self._authoriser.allows(caller, _ANY, i.name)]
        page, token = _page(sorted(issuers, key=lambda i: i.name), request.page_size, request.page_token)
        return keys_pb2.ListIssuersResponse(issuers=[_issuer(i) for i in page], next_page_token=token)

    async def GetIssuer(  # noqa: N802 - the name in the proto
        self, request: keys_pb2.GetIssuerRequest, decision: Decision
    ) -> keys_pb2.Issuer:
        """See keys.proto."""
        issuer = parse_issuer(request.name, "name")
        decision.note(issuer=issuer)
        self._authoriser.require(decision.call.caller, _ANY, issuer)
        return _issuer(self._keyring.settings(issuer))

    async def ListKeys(  # noqa: N802 - the name in the proto
        self, request: keys_pb2.ListKeysRequest, decision: Decision
    ) -> keys_pb2.ListKeysResponse:
        """See keys.proto."""
        issuer = parse_issuer(request.parent, "parent")
        decision.note(issuer=issuer)
        self._authoriser.require(decision.call.caller, _READERS, issuer)
        found = await self._settled(issuer)
        page, token = _page(found.state.keys, request.page_size, request.page_token)
        keys = shown(page, found.state.keys, found)
        return keys_pb2.ListKeysResponse(keys=[_key(k) for k in keys], next_page_token=token)

    async def _settled(self, name: str) -> Issuer:
        """Return an issuer. A key that was published a moment ago is about to get its `ready_time`, so that is waited for.

        It is shown without it if that takes longer, because the store cannot be written.
        """
        for _ in range(_SETTLING_LOOKS):
            issuer = self._keyring.at(name)
            recent = [k for k in issuer.state.keys if issuer.now - k.publish_time < _RECENT]
            if not any(lifecycle.queued(k) and k.ready_time is None for k in recent):
                break
            await asyncio.sleep(_SETTLING_SECONDS)
        return self._keyring.at(name)

    async def GetKey(  # noqa: N802 - the name in the proto
        self, request: keys_pb2.GetKeyRequest, decision: Decision
    ) -> keys_pb2.Key:
        """See keys.proto."""
        issuer, kid = parse_key(request.name, "name")
        decision.note(issuer=issuer, kid=kid)
        self._authoriser.require(decision.call.caller, _READERS, issuer)
        found = self._keyring.at(issuer)
        return _key(*shown([found.key(kid).record], found.state.keys, found))

    async def RotateKeys(  # noqa: N802 - the name in the proto
        self, request: keys_pb2.RotateKeysRequest, decision: Decision
    ) -> keys_pb2.RotateKeysResponse:
        """See keys.proto."""
        series, expected_kid, dry_run = request.series or None, request.expected_kid or None, request.validate_only
        decision.note(series=series, expected_kid=expected_kid, validate_only=dry_run)
        issuer = parse_issuer(request.issuer, "issuer")
        decision.note(issuer=issuer)
        self._authoriser.require(decision.call.caller, _ROTATORS, issuer)
        self._keyring.settings(issuer)
        if not dry_run:
            await decision.begin()
        done = await self._operations.rotate(issuer, series=series, expected_kid=expected_kid, dry_run=dry_run)
        return keys_pb2.RotateKeysResponse(keys=[_key(k) for k in done.keys], warnings=done.warnings)

    async def RevokeKeys(  # noqa: N802 - the name in the proto
        self, request: keys_pb2.RevokeKeysRequest, decision: Decision
    ) -> keys_pb2.RevokeKeysResponse:
        """See keys.proto."""
        dry_run = request.validate_only
        decision.note(why=request.reason[:_MAX_REASON], validate_only=dry_run)
        if request.name:
            issuer, kid = parse_key(request.name, "name")
            decision.note(issuer=issuer, kid=kid)
            self._authoriser.require(decision.call.caller, _REVOKERS, issuer)
            self._keyring.settings(issuer)
        if request.provider:
            decision.note(provider=request.provider)
        scope = _scope(request)
        issuers = self._revocation.issuers_of(scope)
        if not issuers or not all(self._authoriser.allows(decision.call.caller, _REVOKERS, i) for i in issuers):
            raise CallerNotPermittedError("no grant allows this request")
        if not dry_run:
            await decision.begin()
        done = await self._revocation.revoke(scope, issuers, dry_run=dry_run)
        return keys_pb2.RevokeKeysResponse(
            keys=[_key(k) for k in done.keys],
            estimated_live_tokens=done.live_tokens,
            verifier_cache_until=_timestamp(done.verifier_cache_until),
            verifier_refresh_until=_timestamp(done.verifier_refresh_until),
            stale_replicas=done.stale_replicas,
            warnings=done.warnings,
        )


def _scope(request: keys_pb2.RevokeKeysRequest) -> Scope:
    """Return which keys to revoke.

    Raises:
        RequestInvalidError: Neither or both of a key and a provider are named, or the reason is missing or too long.
    """
    violations = []
    if bool(request.name) == bool(request.provider):
        violations.append(Violation("name", "name either a key or a provider, and not both"))
    if not request.reason or len(request.reason) > _MAX_REASON:
        violations.append(Violation("reason", f"must be given, with at most {_MAX_REASON} characters"))
    if violations:
        raise RequestInvalidError(violations)
    return OneKey(*parse_key(request.name, "name")) if request.name else AllKeysOf(request.provider)


def _issuer(settings: IssuerSettings) -> keys_pb2.Issuer:
    return keys_pb2.Issuer(
        name=issuer_name(settings.name),
        url=settings.url,
        algorithms=list(dict.fromkeys(s.algorithm for s in settings.series)),
        token_types=settings.token_types,
        series=[s.name for s in settings.series],
    )


def _key(found: ShownKey) -> keys_pb2.Key:
    key = found.key
    return keys_pb2.Key(
        name=key_name(key.issuer, key.kid),
        kid=key.kid,
        key_uri=key.uri,
        algorithm=key.algorithm,
        series=key.series,
        provider=key.provider,
        state=f"STATE_{found.state.value}",
        publish_time=_timestamp(key.publish_time),
        ready_time=_timestamp(key.ready_time),
        retire_time=_timestamp(key.retire_time),
        withdraw_time=_timestamp(key.withdraw_time),
        revoke_time=_timestamp(key.revoke_time),
        destroy_time=_timestamp(key.destroy_time),
        settle_time=_timestamp(found.settle_time),
        disable_time=_timestamp(key.disable_time),
        destroy_due_time=_timestamp(key.destroy_due_time),
        protection=key.protection or "",
    )


def _timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp


def _page(items: Sequence[T], size: int, token: str) -> tuple[Sequence[T], str]:
    """Return a page and the token of the next page (AIP-158). The token is opaque to callers; it encodes a position."""
    if size < 0:
        raise RequestInvalidError([Violation("page_size", "must not be negative")])
    start = 0
    if token:
        try:
            start = int(base64.urlsafe_b64decode(token.encode()).decode())
        except (binascii.Error, ValueError):
            start = -1
        if not start > 0:
            raise RequestInvalidError([Violation("page_token", "was not returned by this service")])
    end = start + min(size or _DEFAULT_PAGE, _MAX_PAGE)
    following = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(items) else ""
    return items[start:end], following
