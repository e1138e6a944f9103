"""One connection of a client, frame by frame: what ends it, what ends one request, and how answers keep to its windows."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Final

import hpack
import pytest

from sealwright.http2 import frames
from sealwright.http2.frames import ACK, END_HEADERS, END_STREAM, PADDED, PREFACE, PRIORITY, Code, Kind, Setting
from sealwright.server.http2.session import MAX_STREAMS, STREAM_WINDOW, WINDOW
from support.http2_caller import PING, SETTINGS_ACK, Client, ended, frame, head, reset, wants, window
from support.http2_peer import OK, TRAILERS, block

FIELDS: Final = block([(b":path", b"/x")])
MALFORMED: Final = block([(b"no-path", b"")])
END: Final = block(TRAILERS)
ENOUGH: Final = 2**20
OVERFLOW: Final = frames.MAX_WINDOW - frames.DEFAULT_WINDOW + 1


async def test_the_server_sends_its_settings_first_and_acknowledges_those_of_the_client() -> None:
    client = Client(greets=False)
    (kind, flags, stream, payload), update = await client.got()
    assert (kind, flags, stream) == (Kind.SETTINGS, 0, 0)
    assert dict(frames.read_settings(payload)) == {
        Setting.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
        Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
        Setting.MAX_HEADER_LIST_SIZE: 16 * 1024,
    }
    assert update == (Kind.WINDOW_UPDATE, 0, 0, frames.number(WINDOW - frames.DEFAULT_WINDOW))
    client.send(PREFACE[:5])
    client.send(PREFACE[5:], frames.settings(()))
    assert await client.got_exactly(SETTINGS_ACK)
    assert client.events == ["made"]


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"P", b"\x16\x03\x01", PREFACE[:-1] + b"!"])
async def test_a_client_that_does_not_begin_with_the_preface_is_closed_without_a_word(data: bytes) -> None:
    client = Client(greets=False)
    await client.got()
    client.send(data)
    assert await client.got() == []
    assert client.wire.closed == (data != b"P")


@pytest.mark.parametrize("first", [PING, SETTINGS_ACK, head(1)], ids=["ping", "acknowledgement", "request"])
async def test_the_preface_is_followed_by_settings(first: bytes) -> None:
    client = Client(greets=False)
    client.send(PREFACE, first)
    assert await ended(client, Code.PROTOCOL_ERROR)


async def test_tls_without_http2_is_aborted() -> None:
    wrong, right = (SimpleNamespace(selected_alpn_protocol=lambda name=name: name) for name in ("http/1.1", "h2"))
    client = Client(greets=False, tls=wrong)
    assert (client.wire.done, client.wire.out, client.events) == (["abort"], b"", [])
    assert Client(tls=right).events == ["made"]


WRONG, SIZE, FLOW = Code.PROTOCOL_ERROR, Code.FRAME_SIZE_ERROR, Code.FLOW_CONTROL_ERROR
CLOSED, PACKED, INITIAL, FRAME = Code.STREAM_CLOSED, Code.COMPRESSION_ERROR, Setting(4), Setting(5)
ERRORS: Final = {
    "a frame that is too long": (SIZE, b"\x00\x40\x01\x00\x00\x00\x00\x00\x01"),
    "DATA on an idle stream": (WRONG, frame(Kind.DATA, 0, 1, b"x")),
    "WINDOW_UPDATE on an idle stream": (WRONG, window(1, 1)),
    "RST_STREAM on an idle stream": (WRONG, head(1) + reset(3)),
    "DATA on the connection": (WRONG, frame(Kind.DATA, 0, 0, b"x")),
    "HEADERS on the connection": (WRONG, head(0)),
    "HEADERS on an even stream": (WRONG, head(2)),
    "WINDOW_UPDATE on an even stream": (WRONG, head(3) + window(2, 1)),
    "DATA on an even stream": (WRONG, head(3) + frame(Kind.DATA, 0, 2)),
    "CONTINUATION of nothing": (WRONG, frame(Kind.CONTINUATION, END_HEADERS, 1)),
    "CONTINUATION of another stream": (WRONG, frame(Kind.HEADERS, 0, 1) + frame(Kind.CONTINUATION, END_HEADERS, 3)),
    "PING within header fields": (WRONG, frame(Kind.HEADERS, 0, 1) + PING),
    "unknown frame within header fields": (WRONG, frame(Kind.HEADERS, 0, 1) + frame(0x42, 0, 1)),
    "HEADERS within header fields": (WRONG, frame(Kind.HEADERS, 0, 1) + head(3)),
    "PRIORITY of 4 bytes": (SIZE, frame(Kind.PRIORITY, 0, 1, bytes(4))),
    "PRIORITY on the connection": (WRONG, frame(Kind.PRIORITY, 0, 0, bytes(5))),
    "PRIORITY on itself": (WRONG, frame(Kind.PRIORITY, 0, 3, b"\x80\0\0\x03\0")),
    "HEADERS that depend on themselves": (WRONG, head(3, PRIORITY, b"\x80\0\0\x03\0" + FIELDS)),
    "HEADERS without their priority": (SIZE, head(1, PRIORITY, b"\0\0\0")),
    "HEADERS with too much padding": (WRONG, head(1, PADDED, b"\xff" + FIELDS)),
    "DATA with too much padding": (WRONG, head(1, 0) + frame(Kind.DATA, PADDED, 1, b"\x04abc")),
    "PING of 7 bytes": (SIZE, frame(Kind.PING, 0, 0, bytes(7))),
    "PING on a stream": (WRONG, head(1) + frame(Kind.PING, 0, 1, bytes(8))),
    "SETTINGS of 5 bytes": (SIZE, frame(Kind.SETTINGS, 0, 0, bytes(5))),
    "SETTINGS on a stream": (WRONG, head(1) + frame(Kind.SETTINGS, 0, 1)),
    "SETTINGS that acknowledge and set": (SIZE, frame(Kind.SETTINGS, ACK, 0, bytes(6))),
    "INITIAL_WINDOW_SIZE of 2**31": (FLOW, wants(INITIAL, 2**31)),
    "MAX_FRAME_SIZE of 16,383": (WRONG, wants(FRAME, 16_383)),
    "MAX_FRAME_SIZE of 2**24": (WRONG, wants(FRAME, 2**24)),
    "ENABLE_PUSH of 2": (WRONG, wants(Setting.ENABLE_PUSH, 2)),
    "WINDOW_UPDATE of 3 bytes": (SIZE, frame(Kind.WINDOW_UPDATE, 0, 0, bytes(3))),
    "WINDOW_UPDATE of nothing": (WRONG, window(0, 0)),
    "the window of the connection overflows": (FLOW, window(0, OVERFLOW)),
    "SETTINGS let a window overflow": (FLOW, head(1) + window(1, OVERFLOW - 1) + wants(INITIAL, 65_536)),
    "RST_STREAM of 3 bytes": (SIZE, head(1) + frame(Kind.RST_STREAM, 0, 1, bytes(3))),
    "RST_STREAM of 5 bytes": (SIZE, head(1) + frame(Kind.RST_STREAM, 0, 1, bytes(5))),
    "GOAWAY of 7 bytes": (SIZE, frame(Kind.GOAWAY, 0, 0, bytes(7))),
    "GOAWAY on a stream": (WRONG, head(1) + frame(Kind.GOAWAY, 0, 1, bytes(8))),
    "PUSH_PROMISE": (WRONG, head(1) + frame(Kind.PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02")),
    "content after the end": (CLOSED, head(1) + frame(Kind.DATA, 0, 1, b"x")),
    "trailers after the end": (CLOSED, head(1) + head(1)),
    "trailers that do not end the request": (WRONG, head(1, 0) + head(1, 0)),
    "a field of no table": (PACKED, head(1, fields=b"\xbe")),
    "a field that is cut off": (PACKED, head(1, fields=FIELDS[:-1])),
    "a table that is too large": (PACKED, head(1, fields=b"\x3f\xe2\x1f" + FIELDS)),
    "trailers that cannot be decoded": (PACKED, head(1, 0) + head(1, fields=b"\xbe")),
}


@pytest.mark.parametrize(("code", "data"), ERRORS.values(), ids=ERRORS)
async def test_an_error_of_the_connection_ends_it_with_its_code(code: Code, data: bytes) -> None:
    client = Client()
    client.send(data)
    assert client.wire.closed
    client.send(PING, head(99))  # Nothing that follows is read.
    assert await ended(client, code)
    assert client.connection.deadline == client.now + 5
    assert all(stream.number < 99 for stream in client.begun)


async def test_goaway_names_the_last_request_that_was_read() -> None:
    client = Client()
    client.send(head(1), head(5), window(0, 0))
    assert await ended(client, Code.PROTOCOL_ERROR, last=5)


async def test_frames_of_unknown_types_and_priorities_change_nothing() -> None:
    client = Client()
    client.send(frame(0x42, 0xFF, 7, b"?"), frame(Kind.PRIORITY, 0, 9, bytes(5)), wants(Setting(3), 0), PING)
    assert await client.got_exactly(SETTINGS_ACK, frame(Kind.PING, ACK, 0, b"12345678"))


async def test_padding_priority_and_continuation_are_taken_off() -> None:
    client = Client()
    client.send(
        frame(Kind.HEADERS, PADDED | PRIORITY, 1, b"\x02" + bytes(5) + FIELDS[:2] + b"!!"),
        frame(Kind.CONTINUATION, 0, 1, FIELDS[2:4]),
        frame(Kind.CONTINUATION, END_HEADERS, 1, FIELDS[4:]),
        frame(Kind.DATA, PADDED, 1, b"\x03abc\0\0\0"),
        head(1, END_STREAM, block([(b"of", b"no request")])),
    )
    (stream,) = client.begun
    assert (stream.head, stream.take(), stream.complete) == ({b":path": b"/x"}, b"abc", True)


async def test_a_malformed_request_ends_alone() -> None:
    client = Client()
    client.send(head(1, fields=MALFORMED), head(3))
    assert await client.got_exactly(reset(1, Code.PROTOCOL_ERROR))
    assert [stream.number for stream in client.begun] == [3]


async def test_more_than_100_requests_at_once_are_refused_until_one_is_answered() -> None:
    client = Client()
    client.send(*(head(n) for n in range(1, 2 * MAX_STREAMS + 3, 2)))
    assert await client.got_exactly(reset(2 * MAX_STREAMS + 1, Code.REFUSED_STREAM))
    assert len(client.begun) == MAX_STREAMS
    client.begun[0].answer(b"", b"", END)
    assert client.request(2 * MAX_STREAMS + 3).number == 203


async def test_a_request_that_is_reset_at_once_is_not_begun() -> None:
    client = Client()
    client.send(head(1), reset(1), head(3))
    assert [stream.number for stream in client.begun] == [3]


async def test_the_first_block_says_that_no_table_is_used() -> None:
    client = Client()
    client.request(1).answer(block(OK), b"12345", END)
    client.request(3).answer(b"", b"", END)
    assert await client.got() == [
        (Kind.HEADERS, END_HEADERS, 1, frames.NO_TABLE + block(OK)),
        (Kind.DATA, 0, 1, b"12345"),
        (Kind.HEADERS, END_HEADERS | END_STREAM, 1, END),
        (Kind.HEADERS, END_HEADERS | END_STREAM, 3, END),
    ]
    assert hpack.Decoder().decode(frames.NO_TABLE + block(OK), raw=True) == OK


async def test_an_early_answer_ends_the_request_without_an_error() -> None:
    client = Client()
    stream = client.request(1, 0)
    stream.answer(b"", b"", END)
    assert (await client.got())[-1] == (Kind.RST_STREAM, 0, 1, frames.number(Code.NO_ERROR))
    client.send(frame(Kind.DATA, END_STREAM, 1, b"on its way"), reset(1), window(1, 5))
    assert await client.got_exactly()
    assert not stream.open


async def test_an_answer_is_cut_to_the_windows_and_goes_on_with_them() -> None:
    client = Client()
    client.send(wants(INITIAL, 10))
    stream = client.request()
    stream.answer(block(OK), b"x" * 90_000, END)
    assert await client.contents() == [b"x" * 10]
    client.send(wants(INITIAL, 5), window(1, 5))
    assert await client.contents() == []
    client.send(window(1, 3))
    assert await client.contents() == [b"x" * 3]
    client.send(wants(INITIAL, ENOUGH))
    assert list(map(len, await client.contents())) == [16_384] * 3 + [65_535 - 13 - 3 * 16_384]
    assert client.connection.busy
    client.send(wants(FRAME, 2**24 - 1), window(0, ENOUGH))
    assert [(kind, len(payload)) for kind, _, _, payload in await client.got() if kind != Kind.SETTINGS] == [
        (Kind.DATA, 90_000 - 65_535),
        (Kind.HEADERS, len(END)),
    ]
    assert not client.connection.busy


async def test_the_end_waits_for_the_content() -> None:
    client = Client()
    client.send(wants(INITIAL, 0))
    stream = client.request()
    stream.answer(block(OK), b"abc", None)
    waiting = asyncio.create_task(stream.taken())
    stream.answer(b"", b"def", END)
    assert [kind for kind, *_ in await client.got()] == [Kind.SETTINGS, Kind.HEADERS]
    assert not waiting.done()
    client.send(window(1, 6))
    assert [payload for _, _, _, payload in await client.got()] == [b"abcdef", END]
    await waiting


async def test_a_window_of_a_stream_that_overflows_ends_the_stream() -> None:
    client = Client()
    client.request()
    client.send(window(1, OVERFLOW))
    assert await client.got_exactly(reset(1, Code.FLOW_CONTROL_ERROR))
    assert not client.wire.closed


async def test_a_request_on_a_stream_of_before_is_an_error() -> None:
    client = Client()
    client.send(head(5))
    client.send(head(3))
    assert await ended(client, Code.PROTOCOL_ERROR)


async def test_nothing_happens_after_an_abort() -> None:
    client = Client()
    client.connection.abort()
    client.send(head(1))
    client.connection.leave()
    client.connection.finish()
    assert await client.got_exactly()
    assert (client.wire.done, client.begun) == (["abort"], [])


async def test_a_client_may_use_the_initial_window_until_it_knows_ours() -> None:
    client = Client()
    client.request(1, 0)
    client.send(
        *(frame(Kind.DATA, 0, 1, bytes(10_000)) for _ in range(6)), head(3, 0), frame(Kind.DATA, 0, 3, bytes(10))
    )
    client.send(SETTINGS_ACK, SETTINGS_ACK, head(5, 0), frame(Kind.DATA, 0, 5, bytes(16_384)))
    client.begun[0].allow(1)
    assert (await client.got())[-1] == (Kind.WINDOW_UPDATE, 0, 1, frames.number(1 + 60_000 - STREAM_WINDOW))
    client.send(frame(Kind.DATA, 0, 1, b"x"), frame(Kind.DATA, 0, 3, bytes(STREAM_WINDOW - 10)))
    assert not client.wire.closed
    client.send(frame(Kind.DATA, 0, 3, b"x"))
    assert await ended(client, Code.FLOW_CONTROL_ERROR)


async def test_a_request_may_end_without_content_when_its_window_has_become_negative() -> None:

    client = Client()
    stream = client.request(1, 0)
    client.send(frame(Kind.DATA, 0, 1, bytes(16_384)), frame(Kind.DATA, 0, 1, bytes(16_384)), SETTINGS_ACK)
    client.send(frame(Kind.DATA, END_STREAM, 1))
    assert (client.wire.closed, stream.complete) == (False, True)


async def test_the_window_of_the_connection_is_given_back_although_nobody_reads() -> None:
    client = Client()
    for stream in range(1, 2 * 40, 2):
        client.send(head(stream, 0), frame(Kind.DATA, 0, stream, bytes(16_384)))
    assert await client.got_exactly(window(0, 33 * 16_384))
    client.begun[0].allow(49_151)  # as much as it may send anyway
    client.begun[1].allow(100_000)
    assert await client.got_exactly(window(3, 100_000 - 49_151))
