"""What the parts of a SignJwt cost: the service's own share, the guard, the audit record and the verification.

`.venv/bin/python benchmarks/parts.py [--calls 2000] [--rounds 7]` prints a table. The service runs in this process, without a
network and without a KMS: its handler of SignJwt is called with a stream that has the request at once. Parts are replaced by
nothing in turns, and the difference is their cost, as CPU time of the whole process, its threads included. The own share is what
is left without all of them: request, bounds, policy, claims, header, keyring, fields of the record, metrics and response, and a
task for each call.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import uvloop
from benchmark_load import CLAIMS
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from table import Results, Scale

from sealwright import app as application
from sealwright import signing
from sealwright.app import App, build
from sealwright.config import parse
from sealwright.keys.issuer import SigningKey
from sealwright.kms import registry
from sealwright.kms.guard import GuardedProvider
from sealwright.provider import (
    Algorithm,
    KeyDescription,
    KeySpec,
    Protection,
    ProviderSettings,
    RawSignature,
    SignatureEncoding,
)
from sealwright.server.http2.stream import Stream
from sealwright.server.peers import Peer
from sealwright.server.rpc.call import Call
from sealwright.server.rpc.heads import Head
from sealwright.server.rpc.interceptors import Boundary
from sealwright.server.rpc.signing import SigningService
from sealwright.server.worker import settle_memory
from sealwright.v1.signing_pb2 import SignJwtRequest
from sealwright.v1.signing_pb2_grpc import add_SigningServiceServicer_to_server
from support.document import document, issuer

BODY = SignJwtRequest(issuer="issuers/payments", claims_json=CLAIMS).SerializeToString()
MESSAGE = b"\0" + len(BODY).to_bytes(4) + BODY
PATH = "/sealwright.v1.SigningService/SignJwt"
PEER = Peer("ipv4:127.0.0.1:50000", "127.0.0.1")
TOKEN_BYTES = 300
"""An answer with a token has more."""
WIDTHS = (64, 1)
_RECORD = b"r" * 600
MODES = ("own", "guard", "audit")
"""What is real, besides the own share."""

Costs = dict[str, list[float]]
"""By part: µs of CPU for a call, for each round."""


class Settings(ProviderSettings):
    """The settings of the provider below."""

    kind: str = "measured"


class InProcess:
    """A provider whose keys are in this process. Once its key has signed, it repeats that signature at once."""

    kind = "measured"
    settings = Settings

    def __init__(self) -> None:
        self.keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.repeated: RawSignature | None = None

    async def open(self, _settings: Settings) -> InProcess:
        """See `ProviderFactory.open`."""
        return self

    async def describe(self, uri: str, *, timeout: float) -> KeyDescription:  # noqa: ARG002
        """See `KeyProvider.describe`."""
        public = self.keys[uri].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return KeyDescription(
            uri=uri, public_key=public, algorithms=frozenset({"ES256"}), protection=Protection.SOFTWARE
        )

    async def create(self, _spec: KeySpec, *, timeout: float) -> KeyDescription:
        """See `KeyCreator.create`."""
        uri = f"measured:{len(self.keys)}"
        self.keys[uri] = ec.generate_private_key(ec.SECP256R1())
        return await self.describe(uri, timeout=timeout)

    async def find(self, _tags: Mapping[str, str], *, timeout: float) -> list[str]:  # noqa: ARG002
        """See `KeyFinder.find`."""
        return []

    async def disable(self, uri: str, *, timeout: float) -> None:
        """See `KeyDisabler.disable`."""

    async def schedule_deletion(self, uri: str, *, timeout: float) -> None:
        """See `KeyDeleter.schedule_deletion`."""

    async def check(self, *, timeout: float) -> None:
        """See `KeyProvider.check`."""

    async def aclose(self) -> None:
        """See `KeyProvider.aclose`."""

    async def sign(self, uri: str, _algorithm: Algorithm, message: bytes, **_more: Any) -> RawSignature:
        """See `KeyProvider.sign`."""
        if self.repeated is not None:
            return self.repeated
        value = self.keys[uri].sign(message, ec.ECDSA(hashes.SHA256()))
        return RawSignature(value=value, encoding=SignatureEncoding.DER, key_uri=uri)


FACTORY = InProcess()


class Unguarded:
    """A provider without its guard, for signatures alone."""

    def __init__(self, guard: GuardedProvider) -> None:
        self._guard = guard
        self.sign = FACTORY.sign

    def __getattr__(self, name: str) -> Any:
        """Return what else the service asks of a provider."""
        return getattr(self._guard, name)


class Nothing:
    """An audit writer that keeps nothing."""

    failure = None
    under_way = 0

    async def write(self, *_record: Any, **_more: Any) -> None:
        """See `AuditWriter.write`."""


class Wire:
    """A connection that carries one call, whose request has come."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.answered: asyncio.Future[int] = loop.create_future()
        self.call = Stream(self, 1, Head(PATH, 10.0, b"identity", None), len(MESSAGE), 2**20)
        self.call.feed(MESSAGE, last=True)

    def send(self, stream: Stream) -> None:
        """See `Carrier`."""
        self.answered.set_result(len(stream.unsent))

    def forget(self) -> None:
        """Do what a connection does once a stream has been answered."""
        self.call.close()
        del self.call

    def allow(self, stream: Stream, size: int) -> None:
        """See `Carrier`."""

    def end(self, stream: Stream, code: int) -> None:
        """See `Carrier`."""


class Bench:
    """A running service whose parts can be replaced.

    Attributes:
        handle: Answers a call of SignJwt.
    """

    def __init__(self, app: App, handle: Any, caught: tuple[Any, ...]) -> None:
        self._app, self.handle, self._caught = app, handle, caught
        self._guard = app._providers["measured"]  # noqa: SLF001 - it takes the service apart
        self._writer = app.audit._writer  # noqa: SLF001
        self._accept = signing.accept

    def real(self, *names: str) -> None:
        """Make the named parts real, and the others nothing."""
        providers: dict[str, Any] = self._app._providers  # noqa: SLF001
        providers["measured"] = self._guard if "guard" in names else Unguarded(self._guard)
        writer: Any = self._writer if "audit" in names else Nothing()
        self._app.audit._writer = writer  # noqa: SLF001
        signing.accept = lambda *_call: bytes(64)

    async def cost(self, calls: int, width: int) -> float:
        """Return the CPU of a call in µs, with so many calls in flight."""
        loop, left, made = asyncio.get_running_loop(), calls, []

        async def caller() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                made.append(await answer(self.handle, loop))

        before = time.process_time()
        await asyncio.gather(*(caller() for _ in range(width)))
        spent = time.process_time() - before
        if min(made) < TOKEN_BYTES:
            raise SystemExit("a call had no answer")
        return spent / len(made) * 1e6

    def verification(self, calls: int) -> float:
        """Return the CPU of verifying a signature in µs."""
        key, message, raw = self._caught
        before = time.process_time()
        for _ in range(calls):
            self._accept("", key, message, raw)
        return (time.process_time() - before) / calls * 1e6


async def answer(handle: Any, loop: asyncio.AbstractEventLoop) -> int:
    """Let a call be answered, and return how many bytes its answer has."""
    wire = Wire(loop)
    handle(Call(wire.call, PEER))
    size = await wire.answered
    wire.forget()
    return size


async def _bench(app: App, boundary: Boundary, servicer: SigningService) -> Bench:
    """Take the handler of SignJwt as a connection would call it, and catch what is verified in a call."""
    add_SigningServiceServicer_to_server(servicer, boundary)
    handle, accept = boundary.methods[PATH], signing.accept
    caught: list[tuple[SigningKey, bytes, RawSignature]] = []

    def catch(request_id: str, key: SigningKey, message: bytes, raw: RawSignature) -> bytes:
        caught.append((key, message, raw))
        return accept(request_id, key, message, raw)

    signing.accept = catch  # type: ignore[assignment] # mypy does not let a function be replaced
    await answer(handle, asyncio.get_running_loop())
    signing.accept = accept
    FACTORY.repeated = caught[0][2]
    return Bench(app, handle, caught[0])


def _sync(directory: Path, calls: int) -> float:
    """Return the CPU of what a durable record needs at least, in one thread and without the others: a write and its sync."""
    file = os.open(directory / "synced", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        before = time.process_time()
        for _ in range(calls):
            os.write(file, _RECORD)
            os.fdatasync(file)
        return (time.process_time() - before) / calls * 1e6
    finally:
        os.close(file)


async def _wake(calls: int) -> float:
    """Return the CPU of waking a thread that sleeps, and then the event loop."""
    loop = asyncio.get_running_loop()
    asked: SimpleQueue[asyncio.Future[None] | None] = SimpleQueue()

    def answer_all() -> None:
        while (future := asked.get()) is not None:
            loop.call_soon_threadsafe(future.set_result, None)

    thread = Thread(target=answer_all)
    thread.start()
    before = time.process_time()
    for _ in range(calls):
        future = loop.create_future()
        asked.put(future)
        await future
    spent = time.process_time() - before
    asked.put(None)
    thread.join()
    return spent / calls * 1e6


def _remembered(kind: type, built: dict[type, Any]) -> Any:
    """Return what makes an object of a kind, and keeps it."""

    def make(*arguments: Any) -> Any:
        built[kind] = kind(*arguments)
        return built[kind]

    return make


async def _measure(directory: Path, calls: int, rounds: int) -> Costs:
    registry.BUILT_IN["measured"] = f"{__name__}:FACTORY"  # of this process, whatever the module is called in it
    built: dict[type, Any] = {}
    for kind in (Boundary, SigningService):
        setattr(application, kind.__name__, _remembered(kind, built))
    one = issuer("payments", "ES256")
    one["series"][0]["provider"] = "measured"
    app = build(parse(document(directory, "", one, providers={"measured": {"kind": "measured"}}, timing={})))
    await app.start()
    try:
        await app.wait_until_useful()
        # The calls here come as fast as they are answered. That is an overload, in which some would be refused.
        built[Boundary].admission.look = lambda _busy, _seconds: None
        bench = await _bench(app, built[Boundary], built[SigningService])
        settle_memory()
        costs: Costs = {}
        for width, mode in itertools.product(WIDTHS, MODES):
            bench.real(mode)
            await bench.cost(calls // 4 + 1, width)
        for _ in range(rounds):
            costs.setdefault("verify", []).append(bench.verification(calls))
            costs.setdefault("sync", []).append(_sync(directory, calls))
            costs.setdefault("wake", []).append(await _wake(calls))
            for width, mode in itertools.product(WIDTHS, MODES):
                bench.real(mode)
                costs.setdefault(f"{mode}_{width}", []).append(await bench.cost(calls, width))
        bench.real("guard", "audit")
    finally:
        await app.stop()
    return costs


def measure(calls: int, rounds: int) -> Costs:
    """Measure in this process."""
    with tempfile.TemporaryDirectory(prefix="sealwright-bench-") as folder:
        return uvloop.run(_measure(Path(folder), calls, rounds))


def report(results: Results, scale: Scale) -> None:
    """Measure in a process of its own, and add the figures."""
    show(results, max(50, round(scale.seconds * 1000)), scale.rounds)


def show(results: Results, calls: int, rounds: int) -> None:
    """Measure so many calls a round, and add the figures."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        costs = pool.submit(measure, calls, rounds).result()
    wide, alone = WIDTHS

    def over(mode: str, width: int) -> list[float]:
        return [a - b for a, b in zip(costs[f"{mode}_{width}"], costs[f"own_{width}"], strict=True)]

    text = "the service's own share: request, policy, claims, header, metrics, response"
    results.value("own_share_us", text, "40 µs", costs[f"own_{wide}"], "µs")
    results.value("audit_us", f"audit of a record, {wide} in flight", "25 µs", over("audit", wide), "µs")
    results.value("audit_alone_us", "audit of a record, one at a time", "60 µs", over("audit", alone), "µs")
    results.value("sync_us", "write and fdatasync of a record, without a thread", "", costs["sync"], "µs")
    results.value("wake_us", "waking a thread and then the event loop", "", costs["wake"], "µs")
    results.value("guard_us", f"the guard of a KMS call, {wide} in flight", "", over("guard", wide), "µs")
    results.value("verify_us", "verifying a signature (P-256)", "", costs["verify"], "µs")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    results = Results()
    results.header()
    show(results, options.calls, options.rounds)


if __name__ == "__main__":
    main()
