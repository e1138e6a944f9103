"""One connection of HTTP/2: what servers may send, and what never reaches another request."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealwright.http2 import frames
from sealwright.http2.frames import Kind, Setting
from sealwright_providers.dial import BadAnswerError, ConnectionDiedError
from sealwright_providers.http2 import connection
from sealwright_providers.http2.requests import StreamResetError
from support.http2_client import BLOCK, GOOD, SECONDS, ask, good, pool, sends
from support.http2_peer import OK, TRAILERS, Peer, Side, answer, block


async def test_requests_share_one_connection_whatever_the_order_of_the_answers() -> None:
    waiting: list[tuple[Side, int]] = []

    async def last_first(side: Side, stream: int) -> None:
        waiting.append((side, stream))
        if len(waiting) == 20:
            for one, number in reversed(waiting):
                one.send(answer(number, one.bodies[number]))

    async with pool(Peer(last_first)) as one:
        answers = await asyncio.gather(*(ask(one, b"%d" % n) for n in range(20)))
    assert [a.data for a in answers] == [b"%d" % n for n in range(20)]
    assert len({id(side) for side, _ in waiting}) == 1


async def test_the_fields_are_what_was_asked_for() -> None:
    long = block([(b"authorization", b"x" * 40_000)])
    peer = Peer(good)
    async with pool(peer) as one:
        assert await one.request(BLOCK + long, b"?", timeout=SECONDS, repeatable=True) == GOOD
        assert peer.sides[0].heads[1] == {b":method": b"POST", b":path": b"/x", b"authorization": b"x" * 40_000}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 60), max_size=30))
async def test_an_answer_may_come_in_any_pieces(sizes: list[int]) -> None:
    whole = answer(1) + answer(3, b"second")

    async def in_pieces(side: Side, stream: int) -> None:
        if stream == 1:
            return
        at = 0
        for size in sizes:
            side.send(whole[at : at + size])
            at += size
            await side.writer.drain()
            await asyncio.sleep(0)
        side.send(whole[at:])

    async with pool(Peer(in_pieces)) as one:
        assert [a.data for a in await asyncio.gather(ask(one), ask(one))] == [b"ok", b"second"]


EARLY_HINTS = block([(b":status", b"103")])
TABLE_OF_NOTHING = b"\x20"


@pytest.mark.parametrize(
    "data",
    [
        frames.frame(0x42, 0xFF, 7, b"unknown") + answer(1),
        frames.frame(Kind.HEADERS, frames.END_HEADERS, 1, EARLY_HINTS) + answer(1),
        frames.frame(Kind.HEADERS, frames.END_HEADERS | frames.PADDED, 1, b"\x03" + block(OK) + b"\0\0\0")
        + frames.frame(Kind.DATA, frames.PADDED, 1, b"\x02ok\0\0")
        + frames.frame(
            Kind.HEADERS,
            frames.END_HEADERS | frames.END_STREAM | frames.PRIORITY,
            1,
            b"\0\0\0\0\x10" + block(TRAILERS),
        ),
        frames.frame(Kind.HEADERS, 0, 1, block(OK)[:5])
        + frames.frame(Kind.CONTINUATION, 0, 1, block(OK)[5:9])
        + frames.frame(Kind.CONTINUATION, frames.END_HEADERS, 1, block(OK)[9:])
        + frames.frame(Kind.DATA, 0, 1, b"o")
        + frames.frame(Kind.DATA, 0, 1, b"k")
        + frames.frame(Kind.HEADERS, frames.END_STREAM, 1, block(TRAILERS)[:3])
        + frames.frame(Kind.CONTINUATION, frames.END_HEADERS, 1, block(TRAILERS)[3:]),
        frames.frame(Kind.HEADERS, frames.END_HEADERS, 1, TABLE_OF_NOTHING + block(OK))
        + frames.frame(Kind.DATA, 0, 1, b"ok")
        + frames.frame(Kind.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, TABLE_OF_NOTHING + block(TRAILERS)),
        answer(99) + frames.frame(Kind.RST_STREAM, 0, 77, frames.number(2)) + answer(1),
    ],
    ids=["unknown frame", "interim answer", "padding", "continuation", "no table", "others' streams"],
)
async def test_whatever_else_the_standard_permits(data: bytes) -> None:
    async with pool(sends(data)) as one:
        got = await ask(one)
    assert (got.data, dict(got.trailers)) == (b"ok", dict(TRAILERS))


async def test_a_ping_is_answered() -> None:
    async def ping(side: Side, stream: int) -> None:
        side.send(frames.frame(Kind.PING, 0, 0, b"12345678") + answer(stream))

    peer = Peer(ping)
    async with pool(peer) as one:
        await ask(one)
        await ask(one)
        assert (Kind.PING, frames.ACK, 0, b"12345678") in peer.sides[0].frames


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        frames.frame(Kind.DATA, 0, 1, b"no fields yet"),
        frames.frame(Kind.HEADERS, frames.END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"),
        frames.frame(Kind.HEADERS, frames.END_HEADERS, 1, b"\xbe"),
        frames.frame(Kind.HEADERS, frames.END_HEADERS, 1, b"\x3f\xe1\x1f" + block(OK)),
        frames.frame(Kind.HEADERS, 0, 1, block(OK)) + frames.frame(Kind.PING, 0, 0, b"12345678"),
        frames.frame(Kind.HEADERS, 0, 1, b"x" * 16_384) * 1 + frames.frame(Kind.CONTINUATION, 0, 1, b"x" * 16_384) * 5,
        frames.frame(Kind.CONTINUATION, frames.END_HEADERS, 1, block(OK)),
        frames.frame(Kind.HEADERS, frames.END_HEADERS | frames.PADDED, 1, b"\xff"),
        frames.frame(Kind.HEADERS, frames.END_HEADERS, 1, block(OK)) * 2,
        frames.frame(Kind.SETTINGS, 0, 0, b"short"),
        frames.settings([(Setting.MAX_FRAME_SIZE, 1)]),
        frames.settings([(Setting.MAX_FRAME_SIZE, 2**24)]),
        frames.settings([(Setting.INITIAL_WINDOW_SIZE, 2**31)]),
        frames.frame(Kind.WINDOW_UPDATE, 0, 0, b"1"),
        frames.frame(Kind.PUSH_PROMISE, frames.END_HEADERS, 1, b"\0\0\0\x02" + block(OK)),
        frames.frame(Kind.DATA, 0, 1, b"x" * 16_385),
    ],
)
async def test_what_is_not_http2_fails_the_request_and_ends_the_connection(data: bytes) -> None:
    peer = sends(data)
    async with pool(peer) as one:
        with pytest.raises(BadAnswerError):
            await ask(one)
        with pytest.raises(BadAnswerError):
            await ask(one)
    assert len(peer.sides) == 2


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 10), st.integers(0, 255), st.integers(0, 5))
async def test_nothing_that_a_server_sends_harms_more_than_its_request(
    payload: bytes, kind: int, flags: int, stream: int
) -> None:
    async with pool(sends(frames.frame(kind, flags, stream, payload) + payload)) as one:
        with suppress(TimeoutError, ConnectionDiedError, StreamResetError, BadAnswerError):
            await ask(one, timeout=0.05)


async def test_a_server_that_does_not_speak_first() -> None:
    peer = Peer(good)
    peer.hello = answer(1)
    async with pool(peer) as one:
        with pytest.raises(BadAnswerError):
            await ask(one)


async def test_an_answer_that_is_too_long_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_ANSWER_BYTES", 1000)
    async with pool(
        sends(frames.frame(Kind.HEADERS, 4, 1, block(OK)) + frames.frame(Kind.DATA, 0, 1, b"x" * 1001))
    ) as one:
        with pytest.raises(BadAnswerError):
            await ask(one)


@pytest.mark.parametrize("initial", [0, 10, 70_000])
async def test_no_more_is_sent_than_the_server_has_room_for(initial: int) -> None:
    body = bytes(range(256)) * 600
    peer = Peer(good, (Setting.INITIAL_WINDOW_SIZE, initial))
    peer.credit = 5_000
    async with pool(peer) as one:
        await ask(one)
        assert [await a for a in [asyncio.ensure_future(ask(one, b)) for b in (body, body[::-1])]] == [GOOD, GOOD]
        assert (peer.sides[0].bodies[3], peer.sides[0].bodies[5]) == (body, body[::-1])


async def test_the_server_gets_new_room_for_what_was_read() -> None:
    async def long(side: Side, stream: int) -> None:
        side.send(frames.frame(Kind.HEADERS, frames.END_HEADERS, stream, block(OK)))
        for _ in range(60):
            side.send(frames.frame(Kind.DATA, 0, stream, b"x" * 16_384))
        side.send(frames.frame(Kind.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream, block(TRAILERS)))
        await side.writer.drain()

    peer = Peer(long)
    async with pool(peer) as one:
        for _ in range(20):
            assert len((await ask(one)).data) == 60 * 16_384
        granted = [p for kind, _, stream, p in peer.sides[0].frames if kind == Kind.WINDOW_UPDATE and stream == 0]
    assert sum(frames.read_number(p) for p in granted) > 20 * 60 * 16_384


async def test_a_burst_of_long_requests_is_no_debt() -> None:
    wide = frames.MAX_WINDOW - frames.DEFAULT_WINDOW
    peer = Peer(good, (Setting.INITIAL_WINDOW_SIZE, frames.MAX_WINDOW))
    peer.hello += frames.frame(Kind.WINDOW_UPDATE, 0, 0, frames.number(wide))
    peer.connection_credit = wide
    async with pool(peer) as one:
        answers = await asyncio.gather(*(ask(one, b"x" * 65_536) for _ in range(90)))
    assert set(map(str, answers)) == {str(GOOD)}


@pytest.mark.parametrize("size", [0, 100, 65_536])
async def test_a_server_may_keep_a_table_of_any_size(size: int) -> None:
    peer = Peer(good, (Setting.HEADER_TABLE_SIZE, size))
    async with pool(peer) as one:
        for _ in range(3):
            assert await ask(one) == GOOD


async def test_a_longer_answer_than_is_accepted_does_not_wait_for_its_deadline() -> None:
    async def long(side: Side, stream: int) -> None:
        side.send(frames.frame(Kind.HEADERS, frames.END_HEADERS, stream, block(OK)))
        left = connection.MAX_ANSWER_BYTES + 1  # what the window permits
        while left:
            size = min(left, frames.MAX_FRAME_BYTES)
            side.send(frames.frame(Kind.DATA, 0, stream, b"x" * size))
            left -= size

    async with pool(Peer(long)) as one:
        with pytest.raises(BadAnswerError):
            await ask(one)


async def test_a_server_that_asks_and_never_reads_is_left() -> None:
    async def flooding(side: Side, _: int) -> None:
        with suppress(ConnectionError):
            while not side.writer.is_closing():
                side.send(frames.frame(Kind.PING, 0, 0, b"12345678") * 10_000)
                await side.writer.drain()

    async with pool(Peer(flooding)) as one:
        with pytest.raises(ConnectionDiedError):
            await ask(one, timeout=6 * SECONDS)
