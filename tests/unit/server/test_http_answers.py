"""Answers over HTTP that are given again: the same as aiohttp's, and only to requests that come whole and alone."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from sealwright.server.http.answers import MAX_REQUEST_BYTES, Answers, Repeatable, whole
from sealwright.server.http.protocol import Phase, Server
from sealwright.server.http.public import Page, handler

ETAG = '"abc"'
SET = Page(b'{"keys":[]}', {"Content-Type": "application/json", "ETag": ETAG, "Cache-Control": "max-age=1"})
HEALTH = Page(b"ok\n", {"Content-Type": "text/plain"})


def request(path: str = "/set", more: str = "", method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode()


class Site:
    """A listener of a test, which counts what aiohttp has answered."""

    def __init__(self) -> None:
        self.pages = {"/set": SET, "/health": HEALTH}
        self.made = 0
        self._handle = handler(lambda path: self.pages.get(path) or Page(b"", {}, 404))
        self.server = Server(self._count, "http")

    async def _count(self, asked: web.BaseRequest) -> web.StreamResponse:
        self.made += 1
        return await self._handle(asked)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Callable[[], object]]:
        listener = await asyncio.get_running_loop().create_server(self.server, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        try:
            yield lambda: asyncio.open_connection("127.0.0.1", port)
        finally:
            listener.close()
            await self.server.shutdown(1)


async def answers_to(site: Site, *chunks: bytes, pause: float = 0.02) -> list[bytes]:
    """Send chunks one after the other, each once what came before it is answered, and return the answers."""
    async with site.listening() as connect:
        reader, writer = await connect()  # type: ignore[misc]
        received, more = b"", b"."
        for chunk in chunks:
            if not more:  # It has been closed.
                break
            with contextlib.suppress(TimeoutError, ConnectionError):
                writer.write(chunk)
                while more := await asyncio.wait_for(reader.read(65536), pause):
                    received += more
        writer.close()
    return re.split(rb"(?=HTTP/1\.[01] )", received)[1:]


def undated(answer: bytes) -> tuple[bytes, set[bytes], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *fields = head.split(b"\r\n")
    assert sum(f.startswith(b"Date: ") for f in fields) == 1
    return first, {f for f in fields if not f.startswith(b"Date: ")}, body


@pytest.mark.parametrize(
    "asked",
    [
        request(),
        request(method="HEAD"),
        request(more=f"If-None-Match: {ETAG}\r\n"),
        request("/set?x=1"),
        request(more="A: b\r\n"),
    ],
)
async def test_an_answer_that_is_given_again_is_the_same(asked: bytes) -> None:
    site = Site()
    first, *others = await answers_to(site, asked, asked, asked)
    assert site.made == 1
    assert [undated(a) for a in others] == [undated(first)] * 2


async def test_a_set_that_changed_is_served_at_once() -> None:
    site = Site()
    async with site.listening() as connect:
        reader, writer = await connect()  # type: ignore[misc]
        seen = []
        for body in (b"1", b"1", b"2", b"2"):
            if body != site.pages["/set"].body:
                site.pages["/set"] = Page(body, SET.headers)
            writer.write(request())
            await reader.readuntil(b"\r\n\r\n")
            seen.append(await reader.readexactly(1))
        writer.close()
    assert seen == [b"1", b"1", b"2", b"2"]
    assert site.made == 2


@pytest.mark.parametrize(
    "asked",
    [
        request("/health"),
        request("/nothing"),
        request(more="Authorization: Bearer secret\r\n"),
        request(more="Cookie: a=b\r\n"),
        request(more="Expect: 100-continue\r\n"),
        request(more="Content-Length: 0\r\n", method="POST"),
        request(more=f"A: {'b' * MAX_REQUEST_BYTES}\r\n"),
        request().replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Host", b"Connection: keep-alive\r\nHost"),
    ],
)
async def test_other_answers_are_made_each_time(asked: bytes) -> None:
    site = Site()
    assert len(await answers_to(site, asked, asked, asked)) == 3
    assert site.made == 3


async def test_content_that_looks_like_a_request_is_none() -> None:
    site, asked = Site(), request()
    with_content = request(more=f"Content-Length: {len(asked)}\r\n")
    assert len(await answers_to(site, asked, with_content, asked, asked)) == 3
    assert len(await answers_to(site, asked, with_content + asked, asked)) == 3


async def test_the_rest_of_a_request_that_looks_like_one_is_none() -> None:
    site, asked = Site(), request()
    begun = asked + b"GET /nothing HTTP/1.1\r\nA: "
    first, second, third = await answers_to(site, asked, begun, asked)
    assert (first[9:12], second[9:12], third[9:12]) == (b"200", b"200", b"404")


class Wire(asyncio.Transport):
    """A connection of which a test sees what is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...


async def test_a_client_that_takes_no_answers_waits_for_aiohttp() -> None:
    site, asked, wire = Site(), request(), Wire()
    await answers_to(site, asked)
    one = site.server()
    one.connection_made(wire)
    one.data_received(asked)
    assert wire.sent.startswith(b"HTTP/1.1 200")
    assert one.phase is Phase.IDLE
    length = len(wire.sent)
    one.pause_writing()
    for _ in range(100):
        one.data_received(asked)
    assert len(wire.sent) == length
    one.connection_lost(None)


def test_no_more_than_a_bounded_number_is_kept() -> None:
    answers = Answers()
    for n in range(3000):
        answers.keep(request(more=f"A: {n}\r\n"), Repeatable(lambda: True, status=200, body=b"x", headers={}))
    kept = sum(answers.find(request(more=f"A: {n}\r\n")) is not None for n in range(3000))
    assert 0 < kept <= 1024


@given(st.binary(max_size=60) | st.sampled_from([request(), request()[:-1], request() + b"\r\n", request() * 2]))
def test_only_one_whole_request_is_whole(data: bytes) -> None:
    assert whole(data) == (data == request())


class Forgetful(Answers):
    """Leaves every request to aiohttp."""

    def find(self, request: bytes) -> None: ...


PIECES: Sequence[bytes] = (
    request(),
    request(more=f"If-None-Match: {ETAG}\r\n"),
    request("/health"),
    request(method="HEAD"),
    request(more=f"Content-Length: {len(request())}\r\n"),
    request(more="Connection: close\r\n"),
    request() + request(),
    request()[:20],
    request()[20:],
    b"GET /set HTTP/1.1\nHost: localhost\n\n",
    b"\r\n",
    b"x",
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=6))
def test_whatever_comes_gets_the_answers_of_aiohttp_alone(chunks: list[bytes]) -> None:
    async def both() -> None:
        usual, known = Site(), Site()
        usual.server._answers = Forgetful()
        await answers_to(known, *PIECES[:2])
        expected = await answers_to(usual, *chunks, pause=0.01)
        assert [a[:12] for a in await answers_to(known, *chunks, pause=0.01)] == [a[:12] for a in expected]

    asyncio.run(both())
