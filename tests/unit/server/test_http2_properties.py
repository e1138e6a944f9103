"""What holds for every client, however its bytes are cut and whatever it sends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import hpack
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sealwright.http2 import frames
from sealwright.http2.frames import ACK, END_HEADERS, END_STREAM, PADDED, PREFACE, PRIORITY, Kind, Setting
from sealwright.server.http2.fields import FieldDecoder
from sealwright.server.http2.stream import Stream
from sealwright.server.peers import Peer
from sealwright.server.rpc.call import Call, UnreadableMessageError
from sealwright.server.rpc.heads import read_head
from support.http2_caller import Client, Frame, frame, head, prefixed, reset, wants, window
from support.http2_peer import OK, TRAILERS, block

FOREVER: Final = 3600 * 24.0


class Echo:
    """A service that answers each message with itself."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []

    def begin(self, stream: Stream) -> None:
        call = Call(stream, Peer("ipv4:127.0.0.1:1", "127.0.0.1"))
        task = asyncio.create_task(self._answer(call))
        call.run(task, FOREVER)
        self.tasks.append(task)

    async def _answer(self, call: Call) -> None:
        try:
            while (message := await call.read()) is not None:
                await call.write(message)
        except UnreadableMessageError as error:
            call.fail(error.code, error.message)
        call.end()


Step = Callable[[int, hpack.Encoder], bytes]
Script = tuple[bytes, dict[int, bytes]]
FIELDS: Final = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a.B/C"), (b"te", b"trailers")]
FIELDS.append((b"content-type", b"application/grpc"))
QUIET: Final = [frame(Kind.PRIORITY, 0, 77, bytes(5)), frame(0x42, 0xFF, 5, b"unknown"), frame(Kind.SETTINGS, ACK)]
LOUD: Final = [frame(Kind.PING, 0, 0, b"12345678"), wants(Setting.MAX_FRAME_SIZE, 20_000), window(0, 1000)]
NOISE: Final = st.sampled_from(QUIET + LOUD)
CUTS: Final = st.lists(st.integers(0, 1500), max_size=40)


@st.composite
def requests(draw: st.DrawFn) -> tuple[list[Step], bytes | None]:
    """Draw what makes the frames of a request, and its content; None: the client resets it."""
    content = b"".join(map(prefixed, draw(st.lists(st.binary(max_size=40), max_size=4))))
    fields = FIELDS + draw(st.lists(st.sampled_from([(b"a", b""), (b"a", b"x"), (b"bc", b"x")]), max_size=3))
    cuts = sorted(draw(st.lists(st.integers(0, len(content)), max_size=4)))
    pieces = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    split, padding, ending = draw(st.integers(0, 20)), draw(st.integers(0, 3)), draw(st.sampled_from("dtr"))

    def begin(stream: int, encoder: hpack.Encoder) -> bytes:
        whole = encoder.encode(fields)
        first = bytes((padding,)) + bytes(5) + whole[:split] + bytes(padding)
        start = frame(Kind.HEADERS, PADDED | PRIORITY, stream, first)
        return start + frame(Kind.CONTINUATION, END_HEADERS, stream, whole[split:])

    def data(piece: bytes, flags: int = 0) -> Step:
        padded = bytes((padding,)) + piece + bytes(padding)
        return lambda stream, _: frame(Kind.DATA, flags | PADDED, stream, padded)

    def end(stream: int, encoder: hpack.Encoder) -> bytes:
        return reset(stream) if ending == "r" else head(stream, END_STREAM, encoder.encode([("end", "yes")]))

    steps = [begin, *map(data, pieces), data(b"", END_STREAM) if ending == "d" else end]
    return steps, None if ending == "r" else content


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    """Draw what a client sends, and the content of each request that it does not reset."""
    waiting, sent = draw(st.lists(requests(), min_size=1, max_size=5)), [PREFACE, frames.settings(())]
    content: dict[int, bytes | None] = {}
    under_way: dict[int, list[Step]] = {}
    encoder = hpack.Encoder()
    while waiting or under_way:
        choice = draw(st.integers(-1, len(under_way)))
        if choice < 0:
            sent.append(draw(NOISE))
            continue
        if choice == len(under_way) and waiting:
            number = 2 * len(content) + 1
            under_way[number], content[number] = waiting.pop()
        else:
            number = list(under_way)[choice % len(under_way)] if under_way else 0
        if number:
            sent.append(under_way[number].pop(0)(number, encoder))
            if not under_way[number]:
                del under_way[number]
    return b"".join(sent), {n: whole for n, whole in content.items() if whole is not None}


def chunks(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


async def conversation(pieces: Sequence[bytes]) -> tuple[dict[int, Any], list[Frame], Client]:
    """Return the answers to each stream, all other frames, and the client."""
    echo = Echo()
    client = Client(greets=False, reads=read_head, begin=echo.begin)
    for piece in pieces:
        client.send(piece)
        await asyncio.sleep(0)
    for _ in range(10):  # A message takes two turns of the event loop at most.
        await asyncio.sleep(0)
    answers: dict[int, Any] = {}
    others, decoder = [], hpack.Decoder()
    for kind, flags, stream, payload in await client.got():
        if not stream or kind == Kind.RST_STREAM:
            others.append((kind, flags, stream, payload))
        else:
            fields, content, ended = answers.get(stream, ([], b"", False))
            assert not ended
            if kind == Kind.HEADERS:
                fields = fields + list(decoder.decode(payload, raw=True))
            answers[stream] = fields, content + payload * (kind == Kind.DATA), bool(flags & END_STREAM)
    client.connection.connection_lost(None)
    for result in await asyncio.gather(*echo.tasks, return_exceptions=True):
        assert result is None or isinstance(result, asyncio.CancelledError)
    return answers, others, client


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scripts(), CUTS)
async def test_the_places_where_bytes_are_cut_change_nothing(script: Script, cuts: list[int]) -> None:
    data, content = script
    whole, others, client = await conversation([data])
    pieces, others_in_pieces, _ = await conversation(chunks(data, cuts))
    good = [(b":status", b"200"), (b"content-type", b"application/grpc"), (b"grpc-status", b"0")]
    for stream, expected in content.items():
        assert whole[stream] == pieces[stream] == (good, expected, True)
    assert not client.wire.closed
    assert sorted(others_in_pieces) == sorted(others)


def is_ended_properly(client: Client, others: Sequence[Frame], data: bytes) -> bool:
    said = any(kind == Kind.GOAWAY for kind, *_ in others)
    return not client.wire.closed or said == data.startswith(PREFACE)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", PREFACE, PREFACE + frames.settings(())]), CUTS)
async def test_random_bytes_end_with_goaway_or_wait_for_more(data: bytes, start: bytes, cuts: list[int]) -> None:
    _, others, client = await conversation(chunks(start + data, cuts))
    assert is_ended_properly(client, others, start + data)


KINDS: Final = st.sampled_from(["set", "insert", "delete", "repeat"])
FAULTS: Final = st.lists(
    st.tuples(KINDS, st.integers(0, 1500), st.binary(min_size=1, max_size=5)), min_size=1, max_size=6
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scripts(), FAULTS, CUTS)
async def test_valid_bytes_with_faults_end_with_goaway_or_go_on(script: Script, faults: Any, cuts: list[int]) -> None:
    data, most = script[0], len(script[0]) - len(PREFACE)
    for fault, place, new in faults:
        at = len(PREFACE) + place % most
        old = {"set": len(new), "insert": 0, "delete": len(new), "repeat": 0}[fault]
        put = {"set": new, "insert": new, "delete": b"", "repeat": data[at : at + 8 * len(new)]}[fault]
        data = data[:at] + put + data[at + old :]
    _, others, client = await conversation(chunks(data, cuts))
    assert is_ended_properly(client, others, data)


FIELD: Final = st.tuples(
    st.sampled_from([":method", "a", "bb", "content-type"]) | st.text("abc", min_size=1, max_size=8),
    st.sampled_from(["POST", "", "1"]) | st.text("xyz ", max_size=60),
)
TABLES: Final = st.sampled_from(["0", "40", "100", "4096"])
BLOCKS: Final = st.lists(st.lists(FIELD, min_size=1, max_size=4) | st.integers(0, 4) | TABLES, min_size=2, max_size=25)
STATIC: Final = [(":method", "POST")]


@settings(max_examples=300, deadline=None)
@example([[("a", "1")], 0, "0", STATIC, [("a", "1")], 0, "4096", STATIC, 1, 1, 1])
@given(BLOCKS)
def test_fields_mean_what_a_decoder_without_a_cache_says(steps: list[Any]) -> None:
    """A step is a list of fields, the number of an earlier list, or a size of the client's table."""
    encoder, plain = hpack.Encoder(), hpack.Decoder()
    cached: FieldDecoder[Any] = FieldDecoder(lambda fields: list(map(tuple, fields)))
    lists: list[list[tuple[str, str]]] = []
    for step in steps:
        if isinstance(step, str) and int(step) != encoder.header_table_size:  # hpack forgets a size that is set twice
            encoder.header_table_size = int(step)
        if isinstance(step, str) or (isinstance(step, int) and not lists):
            continue
        fields = lists[step % len(lists)] if isinstance(step, int) else step
        lists.append(fields)
        data = encoder.encode(fields)
        expected = [(name.encode(), value.encode()) for name, value in fields]
        assert [tuple(field) for field in plain.decode(data, raw=True)] == expected
        assert cached.decode(data) == expected


SIZES: Final = st.integers(0, 300) | st.integers(0, 40_000)
NAMES: Final = st.sampled_from(["open", "answer", "end", "grow", "initial", "frame"])


class Windows:
    """What a client permits, and what it gets."""

    def __init__(self) -> None:
        self.client = Client()
        self.all = self.initial = frames.DEFAULT_WINDOW
        self.most = frames.MAX_FRAME_BYTES
        self.windows: dict[int, int] = {}
        self.owed: dict[int, bytes] = {}
        self.content: dict[int, bytes] = {}
        self.ended: set[int] = set()

    def act(self, act: str, which: int, size: int) -> None:
        number = 2 * which + 1
        if act == "open":
            number = 2 * len(self.windows) + 1
            self.windows[number], self.owed[number], self.content[number] = self.initial, b"", b""
            self.client.request(number).answer(block(OK), b"", None)
        elif act == "initial":
            self.client.send(wants(Setting.INITIAL_WINDOW_SIZE, size))
            self.windows = {n: left + size - self.initial for n, left in self.windows.items()}
            self.initial = size
        elif act == "frame":
            self.most = frames.MAX_FRAME_BYTES + size
            self.client.send(wants(Setting.MAX_FRAME_SIZE, self.most))
        elif act == "grow" and which < 0:
            self.client.send(window(0, size + 1))
            self.all += size + 1
        elif act == "grow" and number in self.windows:
            self.client.send(window(number, size + 1))
            self.windows[number] += size + 1
        elif act in {"answer", "end"} and number in self.windows:
            self._answer(number, size, last=act == "end")

    def _answer(self, number: int, size: int, *, last: bool) -> None:
        stream = next(stream for stream in self.client.begun if stream.number == number)
        if stream.trailers is None:
            start = len(self.owed[number])
            data = bytes((start + i) % 251 for i in range(size))
            stream.answer(b"", data, block(TRAILERS) if last else None)
            self.owed[number] += data

    async def look(self) -> None:
        """Compare what has come with what is permitted."""
        for kind, flags, number, payload in await self.client.got():
            assert kind in {Kind.DATA, Kind.HEADERS, Kind.SETTINGS}
            if kind == Kind.DATA:
                self.windows[number] -= len(payload)
                self.all -= len(payload)
                assert min(self.windows[number], self.all) >= 0
                assert 0 < len(payload) <= self.most
                self.content[number] += payload
            elif kind == Kind.HEADERS and flags & END_STREAM:
                assert self.content[number] == self.owed[number]
                self.ended.add(number)
        for number, owed in self.owed.items():
            assert owed.startswith(self.content[number])
            if len(owed) > len(self.content[number]):
                assert min(self.windows[number], self.all) <= 0, "content is held back"


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(NAMES, st.integers(-1, 3), SIZES), max_size=30))
async def test_content_is_complete_and_in_order_and_never_more_than_permitted(acts: list[tuple[str, int, int]]) -> None:
    sides = Windows()
    for act in acts:
        sides.act(*act)
        await sides.look()
    for act in (("initial", 0, 2**30), ("grow", -1, 2**30), *(("end", n, 1) for n in range(4))):
        sides.act(*act)
        await sides.look()
    assert sides.content == sides.owed
    assert sides.ended >= {number for number in sides.windows if number <= 7}
