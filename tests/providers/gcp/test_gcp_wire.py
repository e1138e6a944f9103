"""Answers of gateways, proxies and servers that are not Cloud KMS, or not well: gRPC over HTTP/2 to the letter."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme
from google.cloud.kms_v1.types import resources, service
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from sealwright.errors import (
    ProviderAccessDeniedError,
    ProviderError,
    ProviderThrottledError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
)
from sealwright.http2 import frames
from sealwright.http2.frames import Code, Kind
from sealwright_providers.gcp.channel import KmsChannel
from sealwright_providers.gcp.errors import CredentialsRefusedError
from support.http2_peer import OK, TRAILERS, Headers, Peer, Side, block

KEY_RING: Any = resources.KeyRing.pb()
REQUEST: Any = service.GetKeyRingRequest.pb()
NAME = "projects/p/locations/l/keyRings/r"
RING = KEY_RING(name=NAME).SerializeToString()
WHOLE = len(RING).to_bytes(5, "big") + RING
RETRY = status_pb2.Status(code=8)
RETRY.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=3)))


def frames_of(fields: Headers, data: bytes | None = None, trailers: Headers | None = None) -> bytes:
    """Return an answer: fields, and where they are given content and trailers."""
    last = frames.END_STREAM if data is None and trailers is None else 0
    sent = frames.frame(Kind.HEADERS, frames.END_HEADERS | last, 1, block(fields))
    if data is not None:
        sent += frames.frame(Kind.DATA, 0 if trailers else frames.END_STREAM, 1, data)
    if trailers is not None:
        sent += frames.frame(Kind.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, block(trailers))
    return sent


@asynccontextmanager
async def channel(sent: bytes) -> AsyncIterator[tuple[KmsChannel, Peer]]:
    async def on_request(side: Side, _: int) -> None:
        side.send(sent)

    async with Peer(on_request) as peer:
        one = KmsChannel(f"127.0.0.1:{peer.port}", None, None)
        try:
            yield one, peer
        finally:
            await one.aclose()


async def ask(one: KmsChannel) -> Any:
    return await one.call("GetKeyRing", REQUEST(name=NAME), KEY_RING, "name", NAME, timeout=5)


async def test_a_call_says_what_grpc_asks_for() -> None:
    async with channel(frames_of(OK, WHOLE, TRAILERS)) as (one, peer):
        assert (await ask(one)).name == NAME
        head = peer.sides[0].heads[1]
    assert head.pop(b"grpc-timeout").endswith(b"m")
    assert head == {
        b":method": b"POST",
        b":scheme": b"http",
        b":authority": f"127.0.0.1:{peer.port}".encode(),
        b":path": b"/google.cloud.kms.v1.KeyManagementService/GetKeyRing",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
        b"user-agent": b"sealwright",
        b"x-goog-request-params": f"name={NAME}".encode(),
    }


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (frames_of([(b":status", b"503"), (b"content-type", b"text/html")], b"<html>"), ProviderUnavailableError),
        (frames_of([(b":status", b"429")]), ProviderUnavailableError),
        (frames_of([(b":status", b"401")]), CredentialsRefusedError),
        (frames_of([(b":status", b"403")]), ProviderAccessDeniedError),
        (frames_of([(b":status", b"404")]), ProviderUnsupportedError),
        (frames_of([(b":status", b"200")]), ProviderUnavailableError),
        (frames_of([(b":status", b"500"), (b"grpc-status", b"0")]), ProviderUnavailableError),
        (frames_of([*OK, (b"grpc-status", b"8")]), ProviderThrottledError),
        (frames_of(OK, None, [(b"grpc-status", b"7")]), ProviderAccessDeniedError),
        (frames_of(OK, WHOLE, [(b"grpc-status", b"7")]), ProviderAccessDeniedError),
        (frames_of(OK, WHOLE, [(b"grpc-status", b"99")]), ProviderUnavailableError),
        (frames_of(OK, WHOLE, [(b"grpc-status", b"-1")]), ProviderUnavailableError),
        (frames_of(OK, WHOLE, [(b"grpc-status", b"")]), ProviderUnavailableError),
        (frames_of(OK, WHOLE), ProviderUnavailableError),
        (frames_of(OK, b"", TRAILERS), ProviderUnavailableError),
        (frames_of(OK, WHOLE[:-1], TRAILERS), ProviderUnavailableError),
        (frames_of(OK, WHOLE * 2, TRAILERS), ProviderUnavailableError),
        (frames_of(OK, b"\1" + WHOLE[1:], TRAILERS), ProviderUnavailableError),
        (frames_of(OK, b"\0\0\0\0\1\xff", TRAILERS), ProviderUnavailableError),
        (frames.frame(Kind.RST_STREAM, 0, 1, frames.number(Code.ENHANCE_YOUR_CALM)), ProviderThrottledError),
        (frames.frame(Kind.RST_STREAM, 0, 1, frames.number(Code.CANCEL)), ProviderUnavailableError),
        (frames.frame(Kind.RST_STREAM, 0, 1, frames.number(0xBEEF)), ProviderUnavailableError),
        (b"HTTP/1.1 505 HTTP Version Not Supported\r\n\r\n", ProviderUnavailableError),
    ],
)
async def test_every_answer_is_an_error_of_ours(sent: bytes, expected: type[ProviderError]) -> None:
    async with channel(sent) as (one, _):
        with pytest.raises(ProviderError) as caught:
            await ask(one)
    assert type(caught.value) is expected
    assert caught.value.__cause__ is None
    assert "127.0.0.1" not in repr(caught.value.__context__)


@pytest.mark.parametrize("padding", [b"", b"="])
async def test_details_come_in_base64_with_and_without_padding(padding: bytes) -> None:
    encoded = b64encode(RETRY.SerializeToString()).rstrip(b"=")
    while padding and len(encoded) % 4:
        encoded += padding
    trailers = [(b"grpc-status", b"8"), (b"grpc-status-details-bin", encoded)]
    for sent in (frames_of(OK, None, trailers), frames_of(OK + trailers)):
        async with channel(sent) as (one, _):
            with pytest.raises(ProviderThrottledError) as caught:
                await ask(one)
            assert caught.value.retry_after == 3


@pytest.mark.parametrize("details", [b"!!!!", b"A", b"////", any_pb2.Any().SerializeToString()])
async def test_details_that_cannot_be_read_change_nothing(details: bytes) -> None:
    trailers = [(b"grpc-status", b"8"), (b"grpc-status-details-bin", details)]
    async with channel(frames_of(OK, None, trailers)) as (one, _):
        with pytest.raises(ProviderThrottledError) as caught:
            await ask(one)
    assert caught.value.retry_after is None


@pytest.mark.parametrize("protocols", [None, ["http/1.1"]])
async def test_a_server_that_does_not_agree_on_http2_gets_no_call(protocols: list[str] | None) -> None:
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    if protocols is not None:
        context.set_alpn_protocols(protocols)
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    trusted = ssl.create_default_context()
    ca.configure_trust(trusted)
    one = KmsChannel(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", None, trusted)
    with pytest.raises(ProviderUnavailableError):
        await ask(one)
    await one.aclose()
    server.close()
    assert b"".join(received) == b""
