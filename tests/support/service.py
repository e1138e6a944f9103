"""The whole service in the test's own event loop, with a real emulator, real HTTP and real gRPC."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import jwt
import yarl
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from sealwright.app import App, build
from sealwright.clock import Clock
from sealwright.config import parse
from sealwright.v1 import jwks_pb2, jwks_pb2_grpc, keys_pb2, keys_pb2_grpc, signing_pb2, signing_pb2_grpc
from support.waiting import until as until  # noqa: PLC0414 - others take it from here


class Failure:
    """What a caller learns of a failed call."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code = error.code().name
        self.message = error.details() or ""
        self.reason = self.domain = self.request_id = ""
        self.metadata: dict[str, str] = {}
        self.violations: dict[str, str] = {}
        self.retry_after: float | None = None
        trailers = dict(error.trailing_metadata() or ())
        status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
        self.raw = status.SerializeToString()
        for detail in status.details:
            for kind in (
                error_details_pb2.ErrorInfo,
                error_details_pb2.RequestInfo,
                error_details_pb2.BadRequest,
                error_details_pb2.RetryInfo,
            ):
                if detail.Is(kind.DESCRIPTOR):
                    message = kind()
                    detail.Unpack(message)
                    self._take(message)

    def _take(self, message: Any) -> None:
        match message:
            case error_details_pb2.ErrorInfo():
                self.reason, self.domain, self.metadata = message.reason, message.domain, dict(message.metadata)
            case error_details_pb2.RequestInfo():
                self.request_id = message.request_id
            case error_details_pb2.BadRequest():
                self.violations = {v.field: v.description for v in message.field_violations}
            case error_details_pb2.RetryInfo():
                self.retry_after = message.retry_delay.ToNanoseconds() / 1e9


class Service:
    """A running service and its clients."""

    def __init__(
        self, app: App, channel: grpc.aio.Channel, http: aiohttp.ClientSession, document: dict[str, Any]
    ) -> None:
        self.app = app
        self.channel = channel
        self.http = http
        self.document = document
        self.signing = signing_pb2_grpc.SigningServiceStub(channel)
        self.jwks = jwks_pb2_grpc.JwksServiceStub(channel)
        self.keys = keys_pb2_grpc.KeyServiceStub(channel)

    async def sign(self, claims: str = "{}", *, issuer: str = "payments", timeout: float = 10, **more: Any) -> Any:
        """Sign a token."""
        request = signing_pb2.SignJwtRequest(issuer=f"issuers/{issuer}", claims_json=claims, **more)
        return await self.signing.SignJwt(request, timeout=timeout)

    async def list_keys(self, issuer: str = "payments") -> list[Any]:
        """Return the keys of an issuer."""
        return list((await self.keys.ListKeys(keys_pb2.ListKeysRequest(parent=f"issuers/{issuer}"))).keys)

    async def rotate(self, issuer: str = "payments", **more: Any) -> list[Any]:
        """Rotate by hand."""
        return list((await self.keys.RotateKeys(keys_pb2.RotateKeysRequest(issuer=f"issuers/{issuer}", **more))).keys)

    async def revoke(self, kid: str, issuer: str = "payments", reason: str = "a test", **more: Any) -> Any:
        """Revoke a key."""
        request = keys_pb2.RevokeKeysRequest(name=f"issuers/{issuer}/keys/{kid}", reason=reason, **more)
        return await self.keys.RevokeKeys(request)

    async def get_jwks(self, issuer: str = "payments") -> Any:
        """Fetch the JWK Set over gRPC."""
        return await self.jwks.GetJwks(jwks_pb2.GetJwksRequest(issuer=f"issuers/{issuer}"))

    async def get(self, path: str, *, method: str = "GET", at: str = "http", **headers: str) -> tuple[int, Any, bytes]:
        """Make an HTTP request: status, headers, body. Underscores in names of headers are hyphens."""
        url = yarl.URL(f"http://{self.app.addresses[at]}{path}", encoded=True)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.request(method, url, headers=sent, allow_redirects=False) as answer:
            return answer.status, answer.headers, await answer.read()

    async def published(self, issuer: str = "payments") -> dict[str, dict[str, str]]:
        """Return the JWKs that HTTP serves, by kid."""
        _, _, body = await self.get(f"/{issuer}/.well-known/jwks.json")
        return {k["kid"]: k for k in json.loads(body)["keys"]}

    async def verify(self, token: str, issuer: str = "payments", audience: str | None = None) -> dict[str, Any]:
        """Verify a token with PyJWT and the set that HTTP serves, and nothing else."""
        keys = jwt.PyJWKSet.from_dict({"keys": list((await self.published(issuer)).values())})
        key = keys[jwt.get_unverified_header(token)["kid"]]
        return dict(
            jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                issuer=f"https://id.example.com/{issuer}",
                audience=audience,
            ),
        )


@asynccontextmanager
async def running(document: dict[str, Any], *, clock: Clock | None = None, wait: bool = True) -> AsyncIterator[Service]:
    """Run the service on a configuration.

    Args:
        document: The configuration.
        clock: Instead of the machine's.
        wait: Whether to wait until every issuer can sign.
    """
    app = build(parse(document), clock)
    await app.start()
    try:
        if wait:
            await app.wait_until_useful()
        async with grpc.aio.insecure_channel(app.addresses["grpc"]) as channel, aiohttp.ClientSession() as http:
            yield Service(app, channel, http, document)
    finally:
        await app.stop()


async def failure(call: Awaitable[Any]) -> Failure:
    """Return how a call failed."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return Failure(error)
    raise AssertionError(f"no error, but {str(answer)[:100]}")


def audit_records(document: dict[str, Any], event: str = "") -> list[dict[str, Any]]:
    """Read the audit records of all replicas, oldest first."""
    lines = [line for f in Path(document["audit"]["path"]).glob("*.jsonl") for line in f.read_text().splitlines()]
    records = [json.loads(line) for line in lines]
    return sorted((r for r in records if event in {"", r["event"]}), key=lambda r: (r["time"], r["sequence"]))
