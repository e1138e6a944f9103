"""The client of HTTP/2: what servers may send, and what never reaches another request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from sealwright_providers.dial import BadAnswerError, ConnectionDiedError, PoolClosedError, Server
from sealwright_providers.http2 import connection, frames
from sealwright_providers.http2.frames import Code, Kind, Setting
from sealwright_providers.http2.pool import Pool
from sealwright_providers.http2.requests import Answer, StreamResetError
from support.http2_peer import OK, TRAILERS, Peer, Side, answer, block

SECONDS = 5.0
BLOCK = block([(b":method", b"POST"), (b":path", b"/x")])
GOOD = Answer(dict(OK), b"ok", dict(TRAILERS))


@asynccontextmanager
async def pool(peer: Peer) -> AsyncIterator[Pool]:
    async with peer:
        one = Pool(Server("127.0.0.1", peer.port))
        try:
            yield one
        finally:
            await one.aclose()


async def ask(one: Pool, body: bytes = b"?", *, timeout: float = SECONDS, repeatable: bool = True) -> Answer:
    return await one.request(BLOCK, body, timeout=timeout, repeatable=repeatable)


async def good(side: Side, stream: int) -> None:
    side.send(answer(stream))


def sends(data: bytes, *more: tuple[int, int]) -> Peer:
    """Return a peer that answers with these bytes."""

    async def on_request(side: Side, _: int) -> None:
        side.send(data)

    return Peer(on_request, *more)


def one_at_a_time(seconds: float = 0.02) -> Callable[[Side, int], Awaitable[None]]:
    """Return what a server does that allows one request at a time on a connection, and ends others as the C core of gRPC does."""

    async def slow(side: Side, stream: int) -> None:
        if getattr(side, "busy", False):
            side.send(frames.frame(Kind.RST_STREAM, 0, stream, frames.number(Code.ENHANCE_YOUR_CALM)))
            return
        side.busy = True  # type: ignore[attr-defined]

        def done() -> None:
            side.busy = False  # type: ignore[attr-defined]
            side.send(answer(stream))

        asyncio.get_running_loop().call_later(seconds, done)

    return slow


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


async def test_a_server_that_takes_one_request_at_a_time_gets_more_connections() -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def slow(side: Side, stream: int) -> None:
        if side is side.peer.sides[0]:
            asked.set()
            await release.wait()
        side.send(answer(stream))

    peer = Peer(slow, (Setting.MAX_CONCURRENT_STREAMS, 1))
    async with pool(peer) as one:
        first = asyncio.ensure_future(ask(one))
        await asked.wait()
        assert await ask(one) == GOOD
        release.set()
        assert await first == GOOD
        assert len(peer.sides) == 2


@pytest.mark.parametrize("repeatable", [True, False])
async def test_requests_that_the_server_did_not_look_at_are_sent_again(repeatable: bool) -> None:  # noqa: FBT001
    async def refusing(side: Side, stream: int) -> None:
        if side is side.peer.sides[0]:
            side.send(frames.frame(Kind.GOAWAY, 0, 0, frames.number(0) + frames.number(Code.NO_ERROR)))
        elif stream == 1:
            side.send(frames.frame(Kind.RST_STREAM, 0, stream, frames.number(Code.REFUSED_STREAM)))
        else:
            side.send(answer(stream))

    peer = Peer(refusing)
    async with pool(peer) as one:
        assert await ask(one, repeatable=repeatable) == GOOD
    assert len(peer.sides) == 2


async def test_what_the_server_has_begun_ends_on_the_connection_that_it_is_closing() -> None:
    async def closing(side: Side, stream: int) -> None:
        if stream == 3 and side is side.peer.sides[0]:
            side.send(frames.frame(Kind.GOAWAY, 0, 0, frames.number(1) + frames.number(Code.NO_ERROR)) + answer(1))
        elif side is not side.peer.sides[0]:
            side.send(answer(stream))

    peer = Peer(closing)
    async with pool(peer) as one:
        assert [await a for a in [asyncio.ensure_future(ask(one)) for _ in range(2)]] == [GOOD, GOOD]
        assert len(peer.sides) == 2
        assert await peer.sides[0].reader.read() == b""


async def test_a_request_that_was_begun_on_a_dead_connection_is_repeated_only_if_it_may_be() -> None:
    async def dying(side: Side, stream: int) -> None:
        if stream == 1:
            side.send(answer(stream))
        else:
            side.writer.transport.abort()

    for repeatable in (True, False):
        peer = Peer(dying)
        async with pool(peer) as one:
            await ask(one)
            if repeatable:
                assert await ask(one) == GOOD
            else:
                with pytest.raises(ConnectionDiedError):
                    await ask(one, repeatable=False)
            assert len(peer.sides) == 1 + repeatable


async def test_a_server_that_ends_each_new_connection_is_asked_once() -> None:
    async def dying(side: Side, _: int) -> None:
        side.writer.transport.abort()

    peer = Peer(dying)
    async with pool(peer) as one:
        with pytest.raises(ConnectionDiedError):
            await ask(one)
    assert len(peer.sides) == 1


async def test_a_request_that_was_ended_alone_does_not_end_the_others() -> None:
    async def ending(side: Side, stream: int) -> None:
        side.send(frames.frame(Kind.RST_STREAM, 0, 1, frames.number(2)) if stream == 1 else answer(stream))

    peer = Peer(ending)
    async with pool(peer) as one:
        with pytest.raises(StreamResetError) as caught:
            await ask(one)
        assert caught.value.code == 2
        assert await ask(one) == GOOD
    assert len(peer.sides) == 1


async def test_nobody_uses_a_connection_that_was_silent_for_the_whole_of_a_request() -> None:
    async def silent(side: Side, stream: int) -> None:
        if stream == 1:
            side.send(answer(stream))

    peer = Peer(silent)
    async with pool(peer) as one:
        await ask(one)
        with pytest.raises(TimeoutError):
            await ask(one, timeout=0.1)
        assert await ask(one) == GOOD
    assert len(peer.sides) == 2


async def test_hasty_deadlines_do_not_cost_the_connection_again_and_again() -> None:
    async def slow(side: Side, stream: int) -> None:
        asyncio.get_running_loop().call_later(0.02, side.send, answer(stream))

    peer = Peer(slow)
    async with pool(peer) as one:
        await ask(one)
        for _ in range(20):
            with pytest.raises(TimeoutError):
                await ask(one, timeout=0.002)
        assert await ask(one) == GOOD
    assert len(peer.sides) == 2


async def test_a_slow_request_ends_alone_and_the_server_hears_of_it() -> None:
    async def slow(side: Side, stream: int) -> None:
        if stream != 3:
            side.send(answer(stream))

    peer = Peer(slow)
    async with pool(peer) as one:
        await ask(one)
        task = asyncio.ensure_future(ask(one, timeout=0.2))
        await asyncio.sleep(0)
        while not task.done():
            assert await ask(one) == GOOD
            await asyncio.sleep(0.02)
        with pytest.raises(TimeoutError):
            await task
        await ask(one)
        assert len(peer.sides) == 1
        assert (Kind.RST_STREAM, 0, 3, frames.number(Code.CANCEL)) in peer.sides[0].frames


async def test_the_server_hears_that_a_caller_has_left() -> None:
    asked = asyncio.Event()

    async def slow(side: Side, stream: int) -> None:
        if stream == 1:
            asked.set()
        else:
            side.send(answer(stream))

    peer = Peer(slow)
    async with pool(peer) as one:
        task = asyncio.ensure_future(ask(one))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ask(one)
        assert len(peer.sides) == 1
        assert (Kind.RST_STREAM, 0, 1, frames.number(Code.CANCEL)) in peer.sides[0].frames


async def test_a_connection_that_was_idle_for_long_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer(good)
    async with pool(peer) as one:
        await ask(one)
        await ask(one)
        assert len(peer.sides) == 1
        monkeypatch.setattr("sealwright_providers.http2.pool.IDLE_SECONDS", 0.05)
        await asyncio.sleep(0.1)
        await ask(one)
    assert len(peer.sides) == 2


async def test_connections_that_one_burst_needed_do_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer(one_at_a_time(), (Setting.MAX_CONCURRENT_STREAMS, 1))
    async with pool(peer) as one:
        await asyncio.gather(*(ask(one) for _ in range(8)))
        assert len(one._all) > 2
        monkeypatch.setattr("sealwright_providers.http2.pool.IDLE_SECONDS", 0.05)
        await asyncio.sleep(0.1)
        await ask(one)
        await asyncio.sleep(0.05)
        assert len(one._all) <= 2


@pytest.mark.parametrize("more", [b"", frames.frame(Kind.GOAWAY, 0, 0, frames.number(0) + frames.number(0))])
async def test_a_server_that_takes_no_requests_is_dialled_once(more: bytes) -> None:
    peer = Peer(good, *([] if more else [(Setting.MAX_CONCURRENT_STREAMS, 0)]))
    peer.hello += more
    async with pool(peer) as one:
        for _ in range(2):
            with pytest.raises(ConnectionDiedError):
                await ask(one)
        assert len(peer.sides) == 2
        assert not one._all


async def test_no_more_requests_are_sent_than_the_server_permits_even_to_a_new_connection() -> None:
    peer = Peer(one_at_a_time(), (Setting.MAX_CONCURRENT_STREAMS, 1))
    async with pool(peer) as one:
        assert set(map(str, await asyncio.gather(*(ask(one) for _ in range(30))))) == {str(GOOD)}


async def test_a_request_uses_the_room_that_others_leave_while_the_server_cannot_be_dialled() -> None:
    peer = Peer(one_at_a_time(0.2), (Setting.MAX_CONCURRENT_STREAMS, 1))
    async with pool(peer) as one:
        await ask(one)
        peer.stop_listening()
        assert set(map(str, await asyncio.gather(*(ask(one) for _ in range(3))))) == {str(GOOD)}
        assert len(peer.sides) == 1


async def test_a_connection_that_the_server_has_half_closed_is_not_used() -> None:
    async def leaving(side: Side, stream: int) -> None:
        side.send(answer(stream))
        side.writer.write_eof()

    peer = Peer(leaving)
    async with pool(peer) as one:
        for _ in range(3):
            assert await ask(one, repeatable=False) == GOOD
            await asyncio.sleep(0.02)
    assert len(peer.sides) == 3


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


@pytest.mark.parametrize("timeout", [0.0304, 0.0309, 0.03])
def test_a_silent_connection_is_left_whatever_the_deadline_and_the_clock_of_uvloop(
    monkeypatch: pytest.MonkeyPatch, timeout: float
) -> None:
    monkeypatch.setattr("sealwright_providers.http2.pool._LEAVE_SECONDS", 0)

    async def silent(side: Side, stream: int) -> None:
        if stream == 1:
            side.send(answer(stream))

    async def main() -> int:
        peer = Peer(silent)
        async with pool(peer) as one:
            await ask(one)
            await asyncio.sleep(0.01)
            with pytest.raises(TimeoutError):
                await ask(one, timeout=timeout)
            assert await ask(one) == GOOD
            await asyncio.sleep(0.01)
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await ask(one, timeout=timeout)
            assert await ask(one) == GOOD
        return len(peer.sides)

    assert uvloop.run(main()) == 3


async def test_closing_ends_everything_even_if_the_one_who_closes_leaves() -> None:
    async def never(_: Side, __: int) -> None:
        return

    peer = Peer(never, (Setting.MAX_CONCURRENT_STREAMS, 1))
    async with pool(peer) as one:
        under_way = asyncio.ensure_future(ask(one))
        while not one._all:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)
        peer.hello = b""
        waiting = asyncio.ensure_future(ask(one))
        await asyncio.sleep(0.05)
        closing = asyncio.ensure_future(one.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        for task in (under_way, waiting):
            with pytest.raises(PoolClosedError):
                await task
        with suppress(asyncio.CancelledError):
            await closing
        await one.aclose()
        assert not one._all


async def test_many_requests_wait_for_one_new_connection() -> None:
    peer = Peer(good)
    async with pool(peer) as one:
        assert await asyncio.gather(*(ask(one) for _ in range(50))) == [GOOD] * 50
    assert len(peer.sides) == 1


async def test_a_closed_pool_ends_what_is_under_way_and_takes_nothing() -> None:
    async def never(_: Side, __: int) -> None:
        return

    async with pool(Peer(never)) as one:
        task = asyncio.ensure_future(ask(one))
        await asyncio.sleep(0.05)
        await one.aclose()
        await one.aclose()
        with pytest.raises(PoolClosedError):
            await task
        with pytest.raises(PoolClosedError):
            await ask(one)


async def test_a_server_that_asks_and_never_reads_is_left() -> None:
    async def flooding(side: Side, _: int) -> None:
        with suppress(ConnectionError):
            while not side.writer.is_closing():
                side.send(frames.frame(Kind.PING, 0, 0, b"12345678") * 10_000)
                await side.writer.drain()

    async with pool(Peer(flooding)) as one:
        with pytest.raises(ConnectionDiedError):
            await ask(one)
