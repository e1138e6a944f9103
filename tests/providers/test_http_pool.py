"""The pool of connections: what servers may send, and what never reaches another request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealwright_providers.dial import BadAnswerError, PoolClosedError, ProxyRefusedError, Server
from sealwright_providers.http1 import connection
from sealwright_providers.http1.connection import Reply
from sealwright_providers.http1.pool import Pool

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Id: 7\r\n\r\nok"
REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
SECONDS = 5.0


class Peer:
    """A server that answers each request with the next of its texts; None: it closes the connection."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.made = 0
        self.port = 0
        self.asked = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.made += 1
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                self.asked.set()
                answer = self.answers.pop(0) if self.answers else GOOD
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def pool(peer: Peer, **more: object) -> AsyncIterator[Pool]:
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    peer.port = server.sockets[0].getsockname()[1]
    target = Server("127.0.0.1", peer.port) if not more else Server("kms.example", 443, proxy=("127.0.0.1", peer.port))
    one = Pool(target)
    try:
        yield one
    finally:
        await one.aclose()
        server.close()


async def ask(one: Pool, *, repeatable: bool = True, timeout: float = SECONDS) -> Reply:
    return await one.request(REQUEST, timeout=timeout, repeatable=repeatable)


async def test_a_connection_is_used_again() -> None:
    peer = Peer()
    async with pool(peer) as one:
        for _ in range(3):
            assert await ask(one) == Reply(200, {b"content-length": b"2", b"x-id": b"7"}, b"ok")
    assert peer.made == 1


@pytest.mark.parametrize(
    "answer",
    [
        GOOD.replace(b"\r\nX-Id: 7", b"\r\nConnection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        GOOD + GOOD,
        GOOD + b"x",
    ],
)
async def test_a_connection_is_not_used_again_after(answer: bytes) -> None:
    peer = Peer(answer)
    async with pool(peer) as one:
        assert (await ask(one)).body == b"ok"
        await asyncio.sleep(0.05)
        assert (await ask(one)).body == b"ok"
    assert peer.made == 2


async def test_an_interim_answer_is_not_the_answer() -> None:
    async with pool(Peer(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + GOOD)) as one:
        assert (await ask(one)).headers == {b"content-length": b"2", b"x-id": b"7"}


async def test_chunks_are_joined() -> None:
    async with pool(
        Peer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n")
    ) as one:
        assert (await ask(one)).body == b"abc"


async def test_trailers_are_no_header_fields_and_do_not_count_as_content() -> None:
    size = connection.MAX_HEAD_BYTES + 1
    body = b"%x\r\n%s\r\n0\r\nX-Id: evil\r\nX-Sum: 1\r\n\r\n" % (size, b"x" * size)
    async with pool(Peer(b"HTTP/1.1 200 OK\r\nX-Id: 7\r\nTransfer-Encoding: chunked\r\n\r\n" + body)) as one:
        reply = await ask(one)
        assert (len(reply.body), reply.headers[b"x-id"]) == (size, b"7")
        assert b"x-sum" not in reply.headers
        assert (await ask(one)).body == b"ok"


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * connection.MAX_HEAD_BYTES + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: "
        + b"x" * connection.MAX_HEAD_BYTES
        + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + b"x" * (connection.MAX_BODY_BYTES + 1),
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    ],
    ids=["ssh", "http2", "two lengths", "length and chunks", "long head", "long trailer", "long body", "upgrade"],
)
async def test_what_is_not_an_answer_is_refused(answer: bytes) -> None:
    peer = Peer(answer)
    async with pool(peer) as one:
        with pytest.raises(BadAnswerError):
            await ask(one)
        assert (await ask(one)).body == b"ok"
    assert peer.made == 2


class Wire(asyncio.Transport):
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        self.aborted = False

    def write(self, data: object) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True


@given(st.binary(max_size=200), st.integers(0, 60), st.integers(0, 260))
@settings(max_examples=300, deadline=None)
def test_whatever_comes_in_whatever_pieces_is_an_answer_or_an_error(noise: bytes, keep: int, cut: int) -> None:
    async def run() -> None:
        one, wire, text = connection.Connection(asyncio.get_running_loop()), Wire(), GOOD[:keep] + noise
        one.connection_made(wire)
        asking = asyncio.ensure_future(one.exchange(REQUEST, SECONDS))
        await asyncio.sleep(0)
        for piece in (text[:cut], text[cut:]):
            if piece and not wire.aborted:
                one.data_received(piece)
        one.connection_lost(None)
        try:
            reply = await asking
        except (BadAnswerError, ConnectionError):
            pass
        else:
            assert reply.status >= 200
            assert len(reply.body) <= len(text)
        assert not one.reusable

    asyncio.run(run())


async def test_very_short_deadlines_do_not_close_other_connections_again_and_again() -> None:
    peer = Peer()
    async with pool(peer) as one:
        slow = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"  # and its content never comes
        await asyncio.gather(*(ask(one) for _ in range(5)))
        assert len(one._idle) == 5
        peer.answers = [slow]
        with pytest.raises(TimeoutError):
            await ask(one, timeout=0.02)
        assert not one._idle  # the first time they may all be dead
        await asyncio.gather(*(ask(one) for _ in range(5)))
        for _ in range(4):
            peer.answers = [slow]
            with pytest.raises(TimeoutError):
                await ask(one, timeout=0.02)
        assert len(one._idle) == 1


async def test_a_request_that_must_not_be_repeated_gets_a_new_connection() -> None:
    peer = Peer(GOOD, None)
    async with pool(peer) as one:
        await ask(one)
        with pytest.raises(ConnectionError):
            await ask(one, repeatable=False)
    assert (peer.made, len(peer.requests)) == (2, 2)


async def test_a_request_is_repeated_once_and_never_more() -> None:
    peer = Peer(GOOD, None, None)
    async with pool(peer) as one:
        await ask(one)
        with pytest.raises(ConnectionError):
            await ask(one)
    assert len(peer.requests) == 3


async def test_what_comes_after_a_deadline_is_not_taken_for_another_answer() -> None:
    peer = Peer(b"")
    async with pool(peer) as one:
        with pytest.raises(TimeoutError):
            await ask(one, timeout=0.05)
        assert (await ask(one)).body == b"ok"
    assert peer.made == 2


async def test_a_cancelled_request_closes_its_connection() -> None:
    peer = Peer(b"", GOOD)
    async with pool(peer) as one:
        task = asyncio.create_task(ask(one))
        await peer.asked.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert (await ask(one)).body == b"ok"
    assert peer.made == 2


async def test_idle_connections_end(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer()
    async with pool(peer) as one:
        await asyncio.gather(*(ask(one) for _ in range(3)))
        monkeypatch.setattr("sealwright_providers.http1.pool.IDLE_SECONDS", 0)
        await ask(one)
    assert peer.made == 4


async def test_a_closed_pool_refuses_and_ends_what_is_under_way() -> None:
    peer = Peer(b"")
    async with pool(peer) as one:
        task = asyncio.create_task(ask(one))
        await peer.asked.wait()
        await one.aclose()
        with pytest.raises(ConnectionError):
            await task
        with pytest.raises(PoolClosedError):
            await ask(one)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"HTTP/1.1 200 Connection established\r\n\r\n", None),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", ProxyRefusedError),
        (None, ProxyRefusedError),
        (b"x" * 9000, ProxyRefusedError),
    ],
)
async def test_a_proxy_opens_a_tunnel(answer: bytes | None, outcome: type[Exception] | None) -> None:
    peer = Peer(answer)
    async with pool(peer, proxy=True) as one:
        if outcome is None:
            assert (await ask(one)).body == b"ok"
        else:
            with pytest.raises(outcome):
                await ask(one)
    assert peer.requests[0].startswith(b"CONNECT kms.example:443 HTTP/1.1\r\nHost: kms.example:443\r\n")
