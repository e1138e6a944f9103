"""The services of gRPC's own packages: health and reflection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
import pytest
from google.rpc.code_pb2 import Code  # type: ignore[import-untyped]

from sealwright.http2.frames import Kind
from sealwright.server.rpc.call import Call
from sealwright.server.rpc.library import MAX_REQUEST, Library
from support.grpc_calls import answer, begin, turns
from support.http2_caller import frame, prefixed, reset


class Servicer:
    """Says what it gets, in capitals."""

    async def unary(self, request: str, context: Any) -> str:
        if request == "missing":
            await context.abort(grpc.StatusCode.NOT_FOUND, "it is missing")
        if request == "broken":
            raise ValueError(request)
        if request == "unheard of":  # as generated code does for a method that a servicer does not have
            context.set_code(grpc.StatusCode.UNIMPLEMENTED)
            context.set_details("Method not implemented!")
            raise NotImplementedError
        return request.upper()

    async def stream(self, request: str, context: Any) -> None:
        for letter in request:
            await context.write(letter.upper())
        if request == "wait":
            await asyncio.Event().wait()

    async def chat(self, requests: AsyncIterator[str], _: Any) -> AsyncIterator[str]:
        async for request in requests:
            yield request.upper()


def serve(method: str, call: Call) -> Library:
    servicer, library = Servicer(), Library()
    codec: Any = {"request_deserializer": bytes.decode, "response_serializer": str.encode}
    handlers: Any = {
        "Unary": grpc.unary_unary_rpc_method_handler(servicer.unary, **codec),
        "Stream": grpc.unary_stream_rpc_method_handler(servicer.stream, **codec),
        "Chat": grpc.stream_stream_rpc_method_handler(servicer.chat, **codec),
    }
    library.add_registered_method_handlers("a.B", handlers)
    library.methods[f"/a.B/{method}"](call)
    return library


LARGE: Final = prefixed(b"x" * (MAX_REQUEST + 1))
NO_MESSAGE: Final = (Code.INVALID_ARGUMENT, "the request has no complete message", b"")
NOT_ITS_TYPE: Final = (Code.INVALID_ARGUMENT, "the request is not a protobuf message of its type", b"")
TOO_LARGE: Final = (Code.RESOURCE_EXHAUSTED, f"the message has more than {MAX_REQUEST} bytes", b"")


@pytest.mark.parametrize(
    ("method", "data", "expected"),
    [
        ("Unary", prefixed(b"abc"), (Code.OK, "", prefixed(b"ABC"))),
        ("Unary", prefixed(b""), (Code.OK, "", prefixed(b""))),
        ("Unary", prefixed(b"x" * MAX_REQUEST), (Code.OK, "", prefixed(b"X" * MAX_REQUEST))),
        ("Unary", prefixed(b"missing"), (Code.NOT_FOUND, "it is missing", b"")),
        ("Unary", prefixed(b"broken"), (Code.INTERNAL, "the request failed", b"")),
        ("Unary", prefixed(b"unheard of"), (Code.UNIMPLEMENTED, "Method not implemented!", b"")),
        ("Unary", b"", NO_MESSAGE),
        ("Stream", prefixed(b"abc")[:-1], NO_MESSAGE),
        ("Stream", prefixed(b"abc"), (Code.OK, "", prefixed(b"A") + prefixed(b"B") + prefixed(b"C"))),
        ("Stream", prefixed(b""), (Code.OK, "", b"")),
        ("Chat", prefixed(b"ab") + prefixed(b"c"), (Code.OK, "", prefixed(b"AB") + prefixed(b"C"))),
        ("Chat", b"", (Code.OK, "", b"")),
        *((method, prefixed(b"\xff"), NOT_ITS_TYPE) for method in ("Unary", "Stream", "Chat")),
        *((method, LARGE, TOO_LARGE) for method in ("Unary", "Stream", "Chat")),
    ],
)
async def test_the_services_of_grpc_answer(method: str, data: bytes, expected: tuple[int, str, bytes]) -> None:
    client, call = begin(data)
    library = serve(method, call)
    assert await answer(client) == expected
    assert not library._under_way


async def test_a_stream_ends_at_the_deadline_of_its_caller() -> None:
    client, call = begin(prefixed(b"wait"))
    call.left = 60.0
    library = serve("Stream", call)
    for seconds, under_way in ((50, 1), (20, 0)):
        await turns()
        client.now += seconds
        client.connection.tend()
        await turns()
        assert len(library._under_way) == under_way
    assert (await answer(client))[:2] == (Code.DEADLINE_EXCEEDED, "the deadline has passed")


async def test_a_chat_answers_each_message_as_it_comes_and_ends_when_it_is_reset() -> None:
    client, call = begin(complete=False)
    library = serve("Chat", call)
    for text in (b"abc", b"def"):
        client.send(frame(Kind.DATA, 0, 1, prefixed(text)))
        await turns()
        assert await client.contents() == [prefixed(text.upper())]
    assert (client.connection.busy, len(library._under_way)) == (False, 1)
    client.send(reset(1))
    await turns()
    assert not library._under_way
