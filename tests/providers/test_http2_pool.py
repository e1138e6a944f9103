"""The connections of HTTP/2 to one server: which is used, which is left, and what is sent again."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
import uvloop

from sealwright.http2 import frames
from sealwright.http2.frames import Code, Kind, Setting
from sealwright_providers.dial import ConnectionDiedError, PoolClosedError
from sealwright_providers.http2.requests import StreamResetError
from support.http2_client import GOOD, ask, good, one_at_a_time, pool
from support.http2_peer import Peer, Side, answer


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


async def test_the_answer_of_another_request_makes_no_new_connection_an_old_one() -> None:
    begun = 0

    async def dying(side: Side, _: int) -> None:
        nonlocal begun
        begun += 1
        if len(side.heads) == 8:
            side.send(answer(1))
            await side.writer.drain()
            side.writer.close()

    async with pool(Peer(dying)) as one:
        outcomes = await asyncio.gather(*(ask(one) for _ in range(8)), return_exceptions=True)
    assert [o for o in outcomes if not isinstance(o, ConnectionDiedError)] == [GOOD]
    assert begun == 8, "the guard decides whether the others are repeated"


async def test_a_request_that_was_begun_is_repeated_once() -> None:
    begun: list[Side] = []

    async def dying(side: Side, stream: int) -> None:
        begun.append(side)
        if stream == 1:
            side.send(answer(stream))
        else:
            side.writer.transport.abort()

    async with pool(Peer(dying)) as one:
        await asyncio.gather(ask(one), ask(one, repeatable=False), return_exceptions=True)
        await ask(one)
        before = len(begun)
        with suppress(ConnectionDiedError):
            await asyncio.gather(ask(one), ask(one))
        assert len(begun) - before <= 4


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


async def test_very_short_deadlines_do_not_close_the_connection_again_and_again() -> None:
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
