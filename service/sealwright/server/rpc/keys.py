"""KeyService."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from sealwright.administration import Administration
from sealwright.errors import KeyNotFoundError, RequestInvalidError, Violation
from sealwright.issuer_settings import IssuerSettings
from sealwright.keys import lifecycle
from sealwright.keys.lifecycle import Key
from sealwright.server.rpc.interceptors import Calls
from sealwright.server.rpc.names import issuer_name, key_name, parse_issuer, parse_key
from sealwright.v1 import keys_pb2, keys_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
T = TypeVar("T")

_DEFAULT_PAGE: Final = 100
_MAX_PAGE: Final = 1000


class KeyService(keys_pb2_grpc.KeyServiceServicer):
    """Shows, rotates and revokes keys."""

    def __init__(self, administration: Administration, calls: Calls) -> None:
        self._administration = administration
        self._calls = calls

    async def ListIssuers(  # noqa: N802 - the name in the proto
        self,
        request: keys_pb2.ListIssuersRequest,
        context: Context,
    ) -> keys_pb2.ListIssuersResponse:
        """See keys.proto."""
        issuers = await self._administration.list_issuers(self._calls.open(context))
        page, token = _page(sorted(issuers, key=lambda i: i.name), request.page_size, request.page_token)
        return keys_pb2.ListIssuersResponse(issuers=[_issuer(i) for i in page], next_page_token=token)

    async def GetIssuer(  # noqa: N802 - the name in the proto
        self,
        request: keys_pb2.GetIssuerRequest,
        context: Context,
    ) -> keys_pb2.Issuer:
        """See keys.proto."""
        issuer = parse_issuer(request.name, "name")
        return _issuer(await self._administration.get_issuer(self._calls.open(context), issuer))

    async def ListKeys(  # noqa: N802 - the name in the proto
        self,
        request: keys_pb2.ListKeysRequest,
        context: Context,
    ) -> keys_pb2.ListKeysResponse:
        """See keys.proto."""
        issuer = parse_issuer(request.parent, "parent")
        keys = await self._administration.list_keys(self._calls.open(context), issuer)
        page, token = _page(keys, request.page_size, request.page_token)
        now = self._administration.now()
        return keys_pb2.ListKeysResponse(keys=[_key(k, keys, now) for k in page], next_page_token=token)

    async def GetKey(  # noqa: N802 - the name in the proto
        self,
        request: keys_pb2.GetKeyRequest,
        context: Context,
    ) -> keys_pb2.Key:
        """See keys.proto."""
        issuer, kid = parse_key(request.name, "name")
        keys = await self._administration.list_keys(self._calls.open(context), issuer)
        key = next((k for k in keys if k.kid == kid), None)
        if key is None:
            raise KeyNotFoundError("the issuer has no such key")
        return _key(key, keys, self._administration.now())

    async def RotateKeys(  # noqa: N802 - the name in the proto
        self,
        request: keys_pb2.RotateKeysRequest,
        context: Context,
    ) -> keys_pb2.RotateKeysResponse:
        """See keys.proto."""
        issuer = parse_issuer(request.issuer, "issuer")
        keys = await self._administration.rotate(
            self._calls.open(context),
            issuer,
            series=request.series,
            expected_kid=request.expected_kid,
            dry_run=request.validate_only,
        )
        now = self._administration.now()
        return keys_pb2.RotateKeysResponse(keys=[_key(k, keys, now) for k in keys])

    async def RevokeKeys(  # noqa: N802 - the name in the proto
        self,
        request: keys_pb2.RevokeKeysRequest,
        context: Context,
    ) -> keys_pb2.RevokeKeysResponse:
        """See keys.proto."""
        issuer, kid = parse_key(request.name, "name") if request.name else ("", "")
        done = await self._administration.revoke(
            self._calls.open(context),
            issuer=issuer,
            kid=kid,
            provider=request.provider,
            reason=request.reason,
            dry_run=request.validate_only,
        )
        now = self._administration.now()
        return keys_pb2.RevokeKeysResponse(
            keys=[_key(k, done.keys, now) for k in done.keys],
            estimated_live_tokens=done.live_tokens,
            verifier_cache_until=_timestamp(done.verifier_cache_until),
            stale_replicas=done.stale_replicas,
            warnings=done.warnings,
        )


def _issuer(settings: IssuerSettings) -> keys_pb2.Issuer:
    return keys_pb2.Issuer(
        name=issuer_name(settings.name),
        url=settings.url,
        algorithms=list(dict.fromkeys(s.algorithm for s in settings.series)),
        token_types=settings.token_types,
        series=[s.name for s in settings.series],
    )


def _key(key: Key, keys: Sequence[Key], now: datetime) -> keys_pb2.Key:
    return keys_pb2.Key(
        name=key_name(key.issuer, key.kid),
        kid=key.kid,
        key_uri=key.uri,
        algorithm=key.algorithm,
        series=key.series,
        provider=key.provider,
        state=f"STATE_{lifecycle.state(key, keys, now).value}",
        publish_time=_timestamp(key.publish_time),
        ready_time=_timestamp(key.ready_time),
        retire_time=_timestamp(key.retire_time),
        withdraw_time=_timestamp(key.withdraw_time),
        revoke_time=_timestamp(key.revoke_time),
        destroy_time=_timestamp(key.destroy_time),
    )


def _timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp


def _page(items: Sequence[T], size: int, token: str) -> tuple[Sequence[T], str]:
    """Return a page and the token of the next (AIP-158). The token is opaque to callers: a position, encoded."""
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
