"""A client that asks for much and for no answers is a flood, whichever kind of frame it is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from sealwright.http2 import frames
from sealwright.http2.frames import ACK, END_HEADERS, END_STREAM, PADDED, Code, Kind, Setting
from sealwright.server.http2.patience import AN_ANSWER, MOST
from support.http2_caller import PING, SETTINGS_ACK, Client, ended, frame, goaway, head, reset, window
from support.http2_peer import TRAILERS, block

MALFORMED: Final = block([(b"no-path", b"")])
END: Final = block(TRAILERS)
ENOUGH: Final = 2**20


def floods() -> dict[str, tuple[bytes, Callable[[int], bytes]]]:
    answered = head(1, fields=MALFORMED)
    return {
        "PING": (b"", lambda _: PING),
        "PING that nobody asked for": (b"", lambda _: frame(Kind.PING, ACK, 0, bytes(8))),
        "SETTINGS": (b"", lambda _: frames.settings(())),
        "acknowledgements": (b"", lambda _: SETTINGS_ACK),
        "WINDOW_UPDATE of the connection": (b"", lambda _: window(0, 1)),
        "WINDOW_UPDATE of a stream": (head(1), lambda _: window(1, 1)),
        "PRIORITY": (b"", lambda _: frame(Kind.PRIORITY, 0, 1, bytes(5))),
        "unknown frames": (b"", lambda _: frame(0x42)),
        "empty DATA": (head(1, 0), lambda _: frame(Kind.DATA, 0, 1)),
        "DATA of padding": (head(1, 0), lambda _: frame(Kind.DATA, PADDED, 1, b"\0")),
        "DATA after the answer": (answered, lambda _: frame(Kind.DATA, 0, 1, b"x")),
        "CONTINUATION": (frame(Kind.HEADERS, 0, 1), lambda _: frame(Kind.CONTINUATION, 0, 1)),
        "trailers of nothing": (answered, lambda _: head(1, fields=MALFORMED)),
        "RST_STREAM of nothing": (answered, lambda _: reset(1)),
        "rapid reset": (b"", lambda n: head(n) + reset(n)),
        "malformed requests": (b"", lambda n: head(n, fields=MALFORMED)),
        "requests over the limit": (b"".join(map(head, range(1, 200, 2))), lambda n: head(n + 200)),
        "GOAWAY": (head(1), lambda _: goaway(0)),
        "requests after the last GOAWAY": (head(1) + goaway(0), lambda n: head(n + 2)),
    }


@pytest.mark.parametrize(("before", "one"), floods().values(), ids=floods())
async def test_a_flood_of_what_costs_little_ends_the_connection(before: bytes, one: Callable[[int], bytes]) -> None:
    client = Client()
    client.send(before, *(one(2 * n + 1) for n in range(int(MOST) - 10)))
    assert not client.wire.closed
    client.send(*(one(2 * n + 4001) for n in range(20)))
    assert await ended(client, Code.ENHANCE_YOUR_CALM)


async def test_many_settings_in_one_frame_are_a_flood() -> None:

    client = Client()
    client.send(frames.settings([(Setting.INITIAL_WINDOW_SIZE, n) for n in range(2_730)]))
    assert await ended(client, Code.ENHANCE_YOUR_CALM)


async def test_a_client_that_is_answered_may_send_them_for_ever() -> None:
    client = Client()
    for n in range(1, 1001, 2):
        client.request(n).answer(b"", b"", END)
        client.send(PING * int(AN_ANSWER))
    assert not client.wire.closed
    client.send(PING * int(MOST))
    assert await ended(client, Code.ENHANCE_YOUR_CALM)


async def test_time_gives_patience_back() -> None:
    client = Client()
    client.send(PING * 1990)
    client.now += 1
    client.connection.tend()
    client.send(PING * 500)
    assert not client.wire.closed
    client.connection.tend()  # No time has passed.
    client.send(PING * 20)
    assert await ended(client, Code.ENHANCE_YOUR_CALM)


async def test_content_that_is_taken_gives_patience_back() -> None:
    client = Client()
    stream = client.request()
    for _ in range(3000):
        stream.answer(b"", bytes(16_384), None)
        client.send(window(1, 8192), window(0, 8192), window(1, 8192), window(0, 8192))
        await client.got()
    assert not client.wire.closed


async def test_content_that_is_taken_byte_by_byte_is_a_flood() -> None:
    client = Client()
    stream = client.request()
    stream.answer(b"", bytes(100_000), None)
    client.send(*(window(1, 1) + window(0, 1) for _ in range(1100)))
    assert await ended(client, Code.ENHANCE_YOUR_CALM)


async def test_header_fields_that_must_be_decoded_cost_patience_by_their_length() -> None:
    client = Client()
    for n in range(1, 4000, 2):
        fields = block([(b":path", b"/x"), (b"x", b"%04d" % n + bytes(60_000))])
        pieces = [fields[at : at + 16_384] for at in range(0, len(fields), 16_384)]
        client.send(frame(Kind.HEADERS, END_STREAM, n, pieces[0]))
        client.send(*(frame(Kind.CONTINUATION, 0, n, piece) for piece in pieces[1:-1]))
        client.send(frame(Kind.CONTINUATION, END_HEADERS, n, pieces[-1]))
        if client.wire.closed:
            break
    assert n < 200
