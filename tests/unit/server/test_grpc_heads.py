"""Calls of gRPC: their header fields, their messages and their end."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import Any, Final
from urllib.parse import unquote

import hpack
import pytest
from google.rpc.code_pb2 import Code  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from sealwright.http2 import frames
from sealwright.http2.frames import END_STREAM, PADDED, Kind, Setting
from sealwright.server.http2.session import STREAM_WINDOW, MalformedError
from sealwright.server.rpc.call import MAX_MESSAGE, UnreadableMessageError
from sealwright.server.rpc.heads import MAX_METADATA_BYTES, TOO_LONG, UNKNOWN_METHOD, Head, read_head, status_block
from support.grpc_calls import FIELDS, Pairs, answer, begin, having, turns
from support.http2_caller import frame, prefixed, reset, wants, window
from support.http2_peer import TRAILERS, block

END: Final = block(TRAILERS)
ACK: Final = frame(Kind.SETTINGS, frames.ACK)


def test_a_call_is_read_from_its_fields() -> None:
    assert read_head(FIELDS) == Head("/a.B/C", None, b"identity", None)
    assert read_head(having(b"grpc-timeout", b"3S")) == Head("/a.B/C", 3.0, b"identity", None)
    assert read_head([*FIELDS, (b"grpc-encoding", b"gzip"), (b"grpc-encoding", b"br")]).encoding == b"gzip"
    assert read_head(having(b":path", b"/\xe9")).path == "/\u00e9"


TIMES: Final = ["1H=3600", "2M=120", "30S=30", "250m=0.25", "7u=7e-6", "9n=9e-9", "99999999S=99999999", "0S=0"]


@pytest.mark.parametrize("case", TIMES)
def test_a_timeout_has_a_number_and_a_unit(case: str) -> None:
    text, seconds = case.encode().split(b"=")
    assert read_head(having(b"grpc-timeout", text)).timeout == pytest.approx(float(seconds))


@pytest.mark.parametrize("text", [b"", b"1", b"S", b"-1S", b"1.5S", b"1s", b"123456789S", b" 1S", b"1S ", b"\xd9\xa1S"])
def test_a_malformed_timeout_is_refused(text: bytes) -> None:
    refusal = read_head(having(b"grpc-timeout", text)).refusal
    assert refusal == (b"", Code.INTERNAL, "grpc-timeout is malformed")


@pytest.mark.parametrize(
    "value",
    [
        b"application/grpc",
        b"application/grpc+proto",
        b"application/grpc;charset=utf-8",
        b"Application/GRPC",
        b"application/grpc+proto \t; charset=utf-8",
    ],
)
def test_content_types_of_grpc_are_accepted(value: bytes) -> None:
    assert read_head(having(b"content-type", value)).refusal is None


@pytest.mark.parametrize(
    "fields",
    [
        FIELDS[:-1],
        *(having(b"content-type", b"application/" + t) for t in (b"json", b"grpc+json", b"grpc-web", b"grpcx", b"")),
        *(having(b":method", method) for method in (b"GET", b"PUT", b"post")),
    ],
)
def test_what_is_not_grpc_is_answered_with_415(fields: Pairs) -> None:
    whole = getattr(read_head(fields).refusal, "block", b"")
    assert hpack.Decoder().decode(whole, raw=True) == [(b":status", b"415")]


@pytest.mark.parametrize(
    "fields",
    [
        *([f for f in FIELDS if f[0] != name] for name in (b":method", b":scheme", b":path")),
        *([*FIELDS[:4], FIELDS[n], *FIELDS[4:]] for n in range(3)),
        *([FIELDS[n], *FIELDS] for n in range(3)),
        [*FIELDS, (b":authority", b"localhost")],
        *([(name, b"200"), *FIELDS] for name in (b":status", b":protocol", b":", b":Path")),
        *([*FIELDS, (name, b"1")] for name in (b"", b"Upper", b"a b", b"a:b", b"a\0", b"\x7f", b"\xe9", b"a\n")),
        *([*FIELDS, (name, b"1")] for name in (b"connection", b"keep-alive", b"transfer-encoding", b"upgrade")),
        *(having(b"te", value) for value in (b"gzip", b"trailers, deflate", b"")),
        *(having(name, value) for name in (b":path", b"x") for value in (b"a\0", b"\rb", b"a\nb")),
    ],
)
def test_fields_that_break_the_rules_of_http2_are_malformed(fields: Pairs) -> None:
    with pytest.raises(MalformedError):
        read_head(fields)


def test_metadata_of_more_than_16_kb_is_refused() -> None:
    size = sum(len(name) + len(value) + 32 for name, value in FIELDS) + 32 + 1
    for value, refusal in ((MAX_METADATA_BYTES - size, None), (MAX_METADATA_BYTES - size + 1, TOO_LONG.refusal)):
        assert read_head([*FIELDS, (b"x", b"v" * value)]).refusal == refusal


def test_the_first_reason_is_the_refusal() -> None:
    fields = having(b"grpc-timeout", b"?")
    for name, value, code in (
        (b"grpc-encoding", b"br", Code.UNIMPLEMENTED),
        (b"x", b"v" * MAX_METADATA_BYTES, Code.RESOURCE_EXHAUSTED),
        (b"content-type", b"text/html", Code.UNKNOWN),
    ):
        fields = list({**dict(fields), name: value}.items())
        assert getattr(read_head(fields).refusal, "code", None) == code


@given(st.text())
def test_any_message_can_be_read_from_its_field(text: str) -> None:
    fields = dict(hpack.Decoder().decode(status_block(Code.INTERNAL, "?" + text, first=False), raw=True))
    assert all(0x20 <= byte < 0x7F for byte in fields[b"grpc-message"])
    assert unquote(fields[b"grpc-message"].decode("ascii")) == "?" + text.encode(errors="replace").decode()
    assert fields[b"grpc-status"] == b"13"


def test_a_message_is_encoded_only_where_it_must_be() -> None:
    assert b"grpc-message" + b"\x18" + b" a~$&%25 %0A%C3%A9%7F%00" in status_block(
        2, " a~$&% \n\u00e9\x7f\0", first=False
    )


def test_an_answer_without_messages_begins_and_ends_in_one_block() -> None:
    fields = hpack.Decoder().decode(status_block(Code.UNIMPLEMENTED, "", [b"CAU", b"x"], first=True), raw=True)
    assert [(bytes(name), bytes(value)) for name, value in fields] == [
        (b":status", b"200"),
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"12"),
        (b"grpc-accept-encoding", b"identity,deflate,gzip"),
        (b"grpc-status-details-bin", b"CAU"),
        (b"grpc-status-details-bin", b"x"),
    ]


@pytest.mark.parametrize("message", [b"", b"x", b"x" * 100])
async def test_a_short_message_is_taken_whole(message: bytes) -> None:
    client, call = begin(prefixed(message)[:3], prefixed(message)[3:])
    assert call.whole(100) == message
    call.answer(message)
    assert await answer(client) == (Code.OK, "", prefixed(message))
    assert not call._stream.open


LONG: Final = prefixed(b"x" * 101)
NOT_WHOLE: Final = {
    "long": [LONG, b"x" * 101],
    "two": [prefixed(b"a") * 2, b"a"],
    "cut": [LONG[:9], None],
    "none": [b"", None],
}
NOT_WHOLE["compressed"] = [prefixed(gzip.compress(b"abc"), 1), b"abc"]


@pytest.mark.parametrize(("data", "message"), NOT_WHOLE.values(), ids=NOT_WHOLE)
async def test_any_other_message_is_read(data: bytes, message: bytes | None) -> None:
    _, call = begin(data, encoding=b"gzip")
    assert call.whole(100) is call.whole(100) is None
    assert await call.read() == message


async def test_messages_are_read_one_by_one_as_they_come() -> None:
    client, call = begin(complete=False)
    found: list[bytes | None] = []

    async def read_all() -> None:
        while not found or found[-1] is not None:
            found.append(await call.read())

    reading = asyncio.create_task(read_all())
    for n, byte in enumerate(prefixed(b"ab") + prefixed(b"") + prefixed(b"third")):
        client.send(frame(Kind.DATA, 0, 1, bytes((byte,))))
        await turns()
        assert len(found) == sum(n >= last for last in (6, 11, 21))
    client.send(frame(Kind.DATA, END_STREAM, 1))
    await reading
    assert found == [b"ab", b"", b"third", None]


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
async def test_messages_are_decompressed_that_say_so(encoding: bytes) -> None:
    compress = gzip.compress if encoding == b"gzip" else zlib.compress
    most = compress(bytes(MAX_MESSAGE))
    _, call = begin(prefixed(compress(b"a" * 99), 1), prefixed(b"plain"), prefixed(most, 1), encoding=encoding)
    assert [await call.read() for _ in range(4)] == [b"a" * 99, b"plain", bytes(MAX_MESSAGE), None]


BAD: Final = {
    "unknown flag": (Code.INTERNAL, prefixed(b"x", 2)),
    "compressed by nothing": (Code.INTERNAL, prefixed(zlib.compress(b"x"), 1)),
    "too long": (Code.RESOURCE_EXHAUSTED, b"\0" + frames.number(MAX_MESSAGE + 1)),
    "not compressed": (Code.INTERNAL, prefixed(b"hello", 1)),
    "empty": (Code.INTERNAL, prefixed(b"", 1)),
    "cut": (Code.INTERNAL, prefixed(gzip.compress(b"hello")[:-9], 1)),
    "bomb": (Code.RESOURCE_EXHAUSTED, prefixed(gzip.compress(bytes(MAX_MESSAGE + 1)), 1)),
}


@pytest.mark.parametrize(("code", "data"), BAD.values(), ids=BAD)
async def test_a_message_that_cannot_be_received_ends_its_call(code: int, data: bytes, request: Any) -> None:
    client, call = begin(data, encoding=b"identity" if "by nothing" in request.node.name else b"gzip", complete=False)
    with pytest.raises(UnreadableMessageError) as caught:
        await call.read()
    assert caught.value.code == code
    call.fail(caught.value.code, caught.value.message)
    assert (await answer(client))[:2] == (code, caught.value.message)
    assert not call._stream.open


@pytest.mark.parametrize("padding", [b"", b"\0", b"\xc8" + bytes(200)], ids=len)
async def test_a_caller_may_send_a_long_message_and_no_more(padding: bytes) -> None:

    client, call = begin(complete=False)
    client.send(ACK)
    reading = asyncio.create_task(call.read())
    left, credit = prefixed(bytes(100_000)), STREAM_WINDOW
    while left:
        await turns()
        credit += sum(
            frames.read_number(p) for kind, _, n, p in await client.got() if (kind, n) == (Kind.WINDOW_UPDATE, 1)
        )
        assert credit, "the caller waits for a window, and the call for content"
        pad = padding if credit > 2 * len(padding) else b""
        size = min(1000, len(left), credit - len(pad))
        client.send(frame(Kind.DATA, PADDED if pad else 0, 1, pad[:1] + left[:size] + pad[1:]))
        left, credit = left[size:], credit - size - len(pad)
    assert (await reading, credit) == (bytes(100_000), 0)


async def test_a_failure_after_the_first_message_keeps_what_was_sent() -> None:
    client, call = begin()
    await call.write(b"a")
    call.fail(Code.ABORTED, "no more", b"\x08\x0a")
    call.fail(Code.INTERNAL, "too late")
    assert await answer(client) == (Code.ABORTED, "no more", prefixed(b"a"))


async def test_a_call_whose_answer_is_not_taken_in_time_has_one_beginning() -> None:

    client, call = begin()
    client.send(wants(Setting.INITIAL_WINDOW_SIZE, 0))
    task = asyncio.create_task(asyncio.sleep(0))
    call.run(task, 5)
    call.answer(b"a")
    client.now += 6
    client.connection.tend()
    client.send(window(1, 100))
    assert (await answer(client))[2] in {b"", prefixed(b"a")}
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("how", ["reset", "lost", "late"])
async def test_the_task_of_a_call_is_cancelled_when_nobody_waits_for_it(how: str) -> None:
    client, call = begin()
    task = asyncio.create_task(asyncio.Event().wait())
    call.run(task, 5)
    client.now += 4
    client.connection.tend()
    await asyncio.sleep(0)
    assert not task.done()
    if how == "reset":
        client.send(reset(1))
    elif how == "lost":
        client.connection.connection_lost(None)
    else:
        client.now += 2
        client.connection.tend()
        assert (await answer(client))[:2] == (Code.DEADLINE_EXCEEDED, "the deadline has passed")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not call._stream.open


@pytest.mark.parametrize("fields", [FIELDS, having(b":method", b"GET")], ids=["gRPC", "HTTP"])
async def test_a_refusal_waits_until_the_message_begins_to_come(fields: Pairs) -> None:
    client, call = begin(complete=False)
    refusing = asyncio.create_task(call.refuse(read_head(fields).refusal or UNKNOWN_METHOD))
    await asyncio.sleep(0)
    assert await client.got_exactly()
    client.send(frame(Kind.DATA, 0, 1, b"\0"))
    await refusing
    (_, _, _, payload), end = await client.got()
    status = dict(hpack.Decoder().decode(payload, raw=True))[b":status"]
    assert status == (b"200" if fields == FIELDS else b"415")
    assert end == (Kind.RST_STREAM, 0, 1, frames.number(0))
