"""Calls of gRPC as a test begins them, and their answers."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import unquote

import hpack

from sealwright.http2.frames import END_STREAM, Kind
from sealwright.server.peers import Peer
from sealwright.server.rpc.call import Call
from sealwright.server.rpc.heads import read_head
from support.http2_caller import Client, frame, head
from support.http2_peer import block

Pairs = list[tuple[bytes, bytes]]
FIELDS: Pairs = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a.B/C"), (b"te", b"trailers")]
FIELDS.append((b"content-type", b"application/grpc"))


def having(name: bytes, value: bytes) -> Pairs:
    """Return the fields of a call in which one is added or replaced."""
    return list({**dict(FIELDS), name: value}.items())


def begin(*data: bytes, encoding: bytes = b"identity", complete: bool = True) -> tuple[Client, Call]:
    """Return a client, and its call whose content has come in these pieces."""
    client = Client(reads=read_head)
    client.now = time.monotonic()  # as `Call.run` reads it
    client.send(head(1, 0, block(having(b"grpc-encoding", encoding))), *(frame(Kind.DATA, 0, 1, d) for d in data))
    if complete:
        client.send(frame(Kind.DATA, END_STREAM, 1))
    return client, Call(client.begun[0], Peer("ipv4:127.0.0.1:1", "127.0.0.1"))


async def turns() -> None:
    """Let the tasks do what they can."""
    for _ in range(8):
        await asyncio.sleep(0)


async def answer(client: Client) -> tuple[int, str, bytes]:
    """Return the status, the message and the content of an answer that must be well-formed."""
    await turns()
    content, blocks, decoder = b"", [], hpack.Decoder()
    for kind, flags, _, payload in await client.got():
        if kind == Kind.DATA:
            content += payload
        elif kind == Kind.HEADERS:
            blocks.append((flags & END_STREAM, dict(decoder.decode(payload, raw=True))))
    assert [b":status" in fields for _, fields in blocks] == [True] + [False] * (len(blocks) - 1)
    assert [bool(last) for last, _ in blocks] == [False] * (len(blocks) - 1) + [True]
    fields = blocks[-1][1]
    return int(fields[b"grpc-status"]), unquote(fields.get(b"grpc-message", b"").decode()), content
