"""How long a connection and its requests live, and how both end."""

from __future__ import annotations

import math
from functools import partial
from typing import Final

import pytest

from sealwright.http2 import frames
from sealwright.http2.frames import ACK, END_STREAM, PREFACE, Code, Kind, Setting
from sealwright.server.http2.fields import MAX_BLOCK_BYTES
from sealwright.server.rpc.heads import TOO_LONG
from support.http2_caller import FAREWELL, Client, ended, frame, goaway, head, reset, wants, window
from support.http2_peer import OK, TRAILERS, block

FIELDS: Final = block([(b":path", b"/x")])
MALFORMED: Final = block([(b"no-path", b"")])
END: Final = block(TRAILERS)
ENOUGH: Final = 2**20
OVERFLOW: Final = frames.MAX_WINDOW - frames.DEFAULT_WINDOW + 1


async def test_a_client_has_10_seconds_for_its_settings() -> None:
    client = Client(greets=False)
    client.send(PREFACE)
    assert client.connection.deadline == client.now + 10
    client.send(frames.settings(()))
    assert client.connection.deadline == math.inf


async def test_a_client_that_does_not_read_is_not_read_and_has_20_seconds() -> None:
    client = Client()
    client.connection.pause_writing()
    client.connection.leave()
    assert (client.wire.done, client.connection.deadline) == (["pause_reading"], client.now + 20)
    assert not client.connection.blameless
    client.connection.resume_writing()
    assert (client.wire.done[1:], client.connection.deadline) == (["resume_reading"], client.now + 90)
    assert client.connection.blameless


async def test_a_silent_client_is_asked_once_for_a_sign_of_life() -> None:
    client = Client()
    for _ in range(2):
        client.now += 60
        client.connection.tend()
        assert (await client.got_exactly(), client.connection.deadline) == (True, math.inf)
        client.now += 1
        client.connection.tend()
        client.connection.tend()
        assert await client.got_exactly(frame(Kind.PING, 0, 0, b"sealwrig"))
        assert client.connection.deadline == client.now + 20
        client.send(frame(Kind.PING, ACK, 0, b"sealwrig")[:3])
        client.send(frame(Kind.PING, ACK, 0, b"sealwrig")[3:])
        assert client.connection.deadline == math.inf


async def test_an_old_connection_ends_after_the_requests_that_were_under_way() -> None:
    client = Client()
    client.now += 3961  # an hour, and a tenth more for some
    first = client.request(1)
    client.send(frame(Kind.PING, ACK, 0, b"farewell"))  # too early
    client.connection.tend()
    client.connection.tend()
    assert await client.got_exactly(goaway(frames.MAX_STREAM), FAREWELL)
    assert client.connection.deadline == client.now + 90
    client.send(frame(Kind.PING, ACK, 0, b"sealwrig"))
    second = client.request(3)
    client.send(frame(Kind.PING, ACK, 0, b"farewell"), head(5), head(5, fields=b"\xbe"))
    assert await client.got_exactly(goaway(3))
    for stream in (first, second):
        assert not client.wire.closed
        stream.answer(b"", b"", END)
    assert [stream for kind, _, stream, _ in await client.got() if kind == Kind.HEADERS] == [1, 3]
    assert (client.wire.closed, client.begun) == (True, [first, second])


async def test_the_last_stream_of_goaway_never_grows() -> None:

    client = Client()
    client.request(3)
    client.connection.finish()
    client.send(head(5), window(0, 0))
    assert await ended(client, Code.PROTOCOL_ERROR, last=3)


@pytest.mark.parametrize("by_client", [True, False])
async def test_at_the_end_those_who_wait_for_news_are_refused(by_client: bool) -> None:  # noqa: FBT001
    client = Client()
    idle, working = client.request(1), client.request(3)
    idle.idle = True
    idle.on_lost = lambda: client.events.append("lost 1")
    client.send(goaway(0)) if by_client else client.connection.finish()
    assert await client.got_exactly(goaway(2**31 - 1), FAREWELL, goaway(3), reset(1, Code.REFUSED_STREAM))
    assert (client.events, client.connection.busy, client.wire.closed) == (["made", "lost 1"], True, False)
    client.send(reset(3))
    assert (client.wire.closed, working.open) == (True, False)


async def test_a_request_expires_once_at_its_deadline() -> None:
    client = Client()
    stream = client.request()
    stream.deadline = client.now + 5
    stream.on_expiry = lambda: client.events.append("expired")
    for seconds, expected in ((4.9, []), (0.1, ["expired"]), (100, ["expired"])):
        client.now += seconds
        client.connection.tend()
        assert client.events[1:] == expected
    assert stream.open


async def test_answers_that_are_not_taken_for_20_seconds_are_given_up_all_together() -> None:
    client = Client()
    streams = [client.request(number) for number in (1, 3)]
    for stream in streams:
        stream.answer(block(OK), bytes(200_000), END)
    await client.got()
    client.connection.tend()
    client.now += 20
    client.send(window(0, 16_384), window(1, 16_384))  # It takes something of one of them.
    await client.got()
    client.connection.tend()
    client.now += 20
    client.send(window(0, 1), window(1, 1))  # It pretends to.
    client.connection.tend()
    assert [s.open for s in streams] == [True, True]
    client.now += 1
    client.connection.tend()
    resets = [(Kind.RST_STREAM, 0, number, frames.number(Code.CANCEL)) for number in (1, 3)]
    assert (await client.got())[-2:] == resets


async def test_what_the_transport_cannot_take_waits_and_is_counted() -> None:
    client = Client()
    client.send(wants(Setting.INITIAL_WINDOW_SIZE, 2**30), window(0, 2**30))
    streams = [client.request(number) for number in range(1, 40, 2)]
    client.wire.unsent = 64 * 1024
    for stream in streams:
        stream.answer(block(OK), bytes(1024 * 1024), END)
    assert [s.open for s in streams] == [True] * 16 + [False] * 4
    assert all(kind != Kind.DATA for kind, *_ in await client.got())
    client.wire.unsent = 0
    client.connection.pause_writing()
    client.connection.resume_writing()
    sent = [payload for kind, _, _, payload in await client.got() if kind == Kind.DATA]
    assert 64 * 1024 <= sum(map(len, sent)) <= 80 * 1024


async def test_a_client_that_reads_slowly_but_reads_has_all_the_time() -> None:
    client = Client()
    client.request()
    client.wire.unsent = 1_000_000
    client.connection.pause_writing()
    for _ in range(10):
        client.now += 19
        client.wire.unsent -= 1
        client.connection.tend()
        assert client.connection.deadline == client.now + 20
    client.now += 19
    client.connection.tend()
    assert client.connection.deadline == client.now + 1


async def test_a_client_holds_16_mb_of_answers_and_no_more() -> None:
    client = Client()
    streams = [client.request(n) for n in range(1, 40, 2)]
    for stream in streams:
        stream.answer(block(OK), bytes(1024 * 1024), END)
    assert [s.open for s in streams] == [True] * 16 + [False] * 4
    streams[0].reset(Code.CANCEL)
    late = client.request(99)
    late.answer(block(OK), bytes(1024 * 1024), END)
    assert late.open


async def test_a_client_that_sends_no_more_gets_its_answers() -> None:
    client = Client()
    stream = client.request()
    assert client.connection.eof_received()
    assert not client.wire.closed
    stream.answer(block(OK), b"x", END)
    assert client.wire.closed
    assert (await client.got())[-1][0] == Kind.HEADERS


async def test_those_who_work_on_a_request_learn_once_that_it_is_lost() -> None:
    client = Client()
    for number in (1, 3, 5, 7):
        client.request(number).on_lost = partial(client.events.append, str(number))
    client.begun[3].answer(b"", b"", END)
    client.send(reset(1), reset(1))
    client.begun[1].reset(Code.CANCEL)
    for _ in range(2):
        client.connection.connection_lost(None)
    client.begun[2].answer(block(OK), b"nobody reads it", END)
    assert client.events == ["made", "1", "3", "5", "lost"]


async def test_a_connection_waits_for_its_client_unless_it_works_on_a_request() -> None:
    client = Client()
    assert client.connection.waiting_since() == client.now
    stream = client.request()
    assert client.connection.waiting_since() is None
    client.connection.pause_writing()
    assert client.connection.waiting_since() == client.now
    client.connection.resume_writing()
    stream.idle = True
    assert (client.connection.waiting_since(), client.connection.busy) == (client.now, False)


FAT: Final = block([(b":path", b"/" + b"x" * MAX_BLOCK_BYTES)])
BOMB: Final = b"\x40" + frames.header_field(b"bomb", b"x" * 3000)[1:] + b"\xbe" * 30


@pytest.mark.parametrize("fields", [FAT, BOMB], ids=["as it comes", "when decoded"])
async def test_a_connection_ends_after_a_block_of_more_than_64_kb_has_its_answer(fields: bytes) -> None:
    client = Client()
    before = client.request(1)
    client.send(head(3, fields=fields), head(5))
    assert [stream.head for stream in client.begun] == [{b":path": b"/x"}, TOO_LONG]
    assert (await client.got())[-1] == (Kind.GOAWAY, 0, 0, frames.number(3) + frames.number(0))
    client.begun[1].answer(b"", b"", END)
    assert not client.wire.closed
    before.answer(b"", b"", END)
    assert client.wire.closed


async def test_trailers_of_more_than_64_kb_end_their_request_and_later_the_connection() -> None:
    client = Client()
    stream = client.request(1, 0)
    client.send(head(1, END_STREAM, BOMB))
    assert stream.complete
    stream.answer(b"", b"", END)
    assert client.wire.closed
