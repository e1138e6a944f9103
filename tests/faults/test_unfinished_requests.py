"""Kind A: requests that never become complete, and requests that are too large."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from faults.raw_http2 import RawConnection, frame, headers, unfinished
from faults.strangers import Clock
from sealwright.errors import OverloadedError, RequestInvalidError, SealwrightError
from sealwright.server.peers import Peer
from sealwright.server.rpc import receiving
from sealwright.server.rpc.call import MAX_MESSAGE
from sealwright.server.rpc.receiving import PLACES, PLACES_PER_CONNECTION, SMALL_MESSAGE, Receiving
from sealwright.v1 import signing_pb2
from sealwright.v1.signing_pb2_grpc import SigningServiceStub
from sealwright_testing.emulators.aws import AwsEmulator, ThreadedAwsEmulator
from support.document import document
from support.processes import process, write_config
from support.service import Service, audit_records, failure, running, until

SIGN = "/sealwright.v1.SigningService/SignJwt"
METHODS = [SIGN, "/sealwright.v1.SigningService/BatchSignJwt", "/sealwright.v1.JwksService/GetJwks"]
ORDER = signing_pb2.SignJwtRequest(issuer="issuers/payments", claims_json="{}")
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def threaded_emulator() -> Iterator[AwsEmulator]:
    with ThreadedAwsEmulator() as emulator:
        yield emulator


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with AwsEmulator() as emulator, running(document(tmp_path, emulator.endpoint)) as service:
        yield service


@contextlib.asynccontextmanager
async def raw(address: str, path: str, message: bytes, streams: int) -> AsyncIterator[RawConnection]:
    """Open a connection with calls that never end."""
    connection = RawConnection()
    await connection.open(address)
    try:
        connection.call(path, message, streams)
        yield connection
    finally:
        await connection.close()


def resident(pid: int) -> int:
    """Return the largest resident memory of a process so far, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.parametrize("path", METHODS)
@pytest.mark.parametrize("connections", [1, 6])
async def test_f03_streams_that_never_end_hold_little_memory_and_others_are_served(
    tmp_path: Path, threaded_emulator: AwsEmulator, path: str, connections: int
) -> None:
    config = write_config(tmp_path, document(tmp_path, threaded_emulator.endpoint))
    with process(tmp_path, "sealwright", "serve", "--config", config) as served:
        address = served.ready["grpc"]
        before = resident(served.popen.pid)
        async with contextlib.AsyncExitStack() as stack:
            bad = [
                await stack.enter_async_context(raw(address, path, unfinished(2 * MEGABYTE), 250))
                for _ in range(connections)
            ]
            async with grpc.aio.insecure_channel(address, options=OWN_CONNECTION) as channel:
                for _ in range(20):
                    assert (await SigningServiceStub(channel).SignJwt(ORDER, timeout=20)).token

            async def much_was_sent() -> bool:
                return sum(c.sent for c in bad) > 10 * MEGABYTE

            await until(much_was_sent)
        assert resident(served.popen.pid) - before < 300 * MEGABYTE


async def test_f03_a_request_must_be_complete_in_time(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "RECEIVE_SECONDS", 0.2)
    for path in METHODS:
        async with raw(service.app.addresses["grpc"], path, unfinished(1000), 5) as connection:

            async def ended(connection: RawConnection = connection) -> bool:
                return len(connection.ended) == 5

            await until(ended)
    assert (await service.sign()).token
    records = [r for r in audit_records(service.document) if r.get("outcome") == "failed"]
    assert {(r["method"], r["reason"]) for r in records} == {
        ("SignJwt", "REQUEST_INVALID"),
        ("BatchSignJwt", "REQUEST_INVALID"),
    }
    assert len(records) == 10


async def test_f03_unfinished_requests_do_not_delay_the_end(service: Service) -> None:
    async with raw(service.app.addresses["grpc"], SIGN, unfinished(1000), 50):
        await service.sign()
        await asyncio.wait_for(service.app.stop(), receiving.RECEIVE_SECONDS - 2)


async def test_f03_calls_that_are_given_up_before_they_are_complete_leave_no_record(service: Service) -> None:
    before = len(audit_records(service.document))
    async with raw(service.app.addresses["grpc"], SIGN, unfinished(1000), 50):
        await asyncio.sleep(0.1)
    await service.sign()
    assert len(audit_records(service.document)) == before + 1


async def test_f03_a_call_without_a_message_is_refused(service: Service) -> None:
    connection = RawConnection()
    await connection.open(service.app.addresses["grpc"])
    connection._writer.write(frame(1, 4 | 1, 1, headers(SIGN)))

    async def ended() -> bool:
        return 1 in connection.ended

    await until(ended)
    await connection.close()
    (record,) = [r for r in audit_records(service.document) if r.get("outcome") == "failed"]
    assert (record["method"], record["reason"]) == ("SignJwt", "REQUEST_INVALID")


async def test_f03_only_a_batch_may_be_large(service: Service) -> None:
    audiences = ["x" * 2000] * 100
    claims = '{"a":"' + "ü" * 60_000 + '"}'
    refused = await failure(service.sign(audience=audiences, claims=claims))
    assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "REQUEST_INVALID")
    assert str(SMALL_MESSAGE) in refused.message
    one = signing_pb2.SignJwtRequest(issuer="issuers/payments", claims_json='{"a":"' + "x" * 4000 + '"}')
    batch = signing_pb2.BatchSignJwtRequest(requests=[one] * 200)
    assert batch.ByteSize() > SMALL_MESSAGE
    answer = await service.signing.BatchSignJwt(batch, timeout=60)
    assert all(r.response.token for r in answer.results)
    too_large = signing_pb2.BatchSignJwtRequest(requests=[one] * 256 * 3)
    refused = await failure(service.signing.BatchSignJwt(too_large))
    assert (refused.code, refused.reason) == ("RESOURCE_EXHAUSTED", "REQUEST_TOO_LARGE")


async def test_f03_a_message_that_grows_when_it_is_decompressed_is_refused(service: Service) -> None:
    bomb = signing_pb2.SignJwtRequest(issuer="issuers/payments", claims_json=" " * 50 * MEGABYTE)
    refused = await failure(service.signing.SignJwt(bomb, compression=grpc.Compression.Gzip))
    assert refused.code == "RESOURCE_EXHAUSTED"
    assert (await service.sign()).token


async def test_f03_large_requests_under_way_are_bounded(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "_HELD_BYTES", 3 * MEGABYTE)
    one = signing_pb2.SignJwtRequest(issuer="issuers/payments", claims_json='{"a":"' + "x" * 5000 + '"}')
    batch = signing_pb2.BatchSignJwtRequest(requests=[one] * 256)
    calls = [asyncio.ensure_future(service.signing.BatchSignJwt(batch, timeout=60)) for _ in range(6)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    reasons = {(await failure(c)).reason for c, a in zip(calls, answers, strict=True) if isinstance(a, Exception)}
    assert reasons == {"OVERLOADED"}
    assert (await service.signing.BatchSignJwt(batch, timeout=60)).results


class Call:
    """A call whose message the test sends."""

    complete = False

    def __init__(self, peer: str) -> None:
        self.peer = Peer(peer, peer)
        self.message: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def read(self) -> Any:
        return await self.message


class Calls:
    """Calls in a `Receiving` whose clock the test moves."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.receiving = Receiving(self.clock)

    def begin(self, peer: str) -> tuple[Call, asyncio.Task[Any]]:
        call = Call(peer)

        async def handle() -> Any:
            task = asyncio.current_task()
            assert task is not None
            return await self.receiving.receive(call, task)  # type: ignore[arg-type]

        return call, asyncio.create_task(handle())

    async def later(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.clock.now += seconds
        self.receiving.sweep()
        for _ in range(5):
            await asyncio.sleep(0)

    @property
    def empty(self) -> bool:
        state = self.receiving
        return not (state._connections or state._began or state._reading or state._late or state._receiving)


async def test_f03_the_time_of_a_request_is_that_of_its_whole_arrival() -> None:
    calls = Calls()
    begun = [calls.begin("a") for _ in range(PLACES_PER_CONNECTION)]
    await calls.later(receiving.RECEIVE_SECONDS - 1)
    assert not any(task.done() for _, task in begun)
    await calls.later(2)
    assert all(isinstance(task.result(), RequestInvalidError) for _, task in begun)
    assert calls.empty


async def test_f03_one_connection_leaves_places_to_others() -> None:
    calls = Calls()
    bad = [calls.begin("bad") for _ in range(200)]
    await asyncio.sleep(0)
    good, task = calls.begin("good")
    good.message.set_result(b"x")
    assert await asyncio.wait_for(task, 1) == b"x"
    for _, one in bad:
        one.cancel()
    await asyncio.gather(*(one for _, one in bad), return_exceptions=True)
    assert calls.empty


async def test_f03_when_all_places_are_taken_the_slow_give_way() -> None:
    calls = Calls()
    bad = [calls.begin(f"bad {n}") for n in range(3 * PLACES) for _ in range(3)]
    await asyncio.sleep(0)
    good, task = calls.begin("good")
    good.message.set_result(b"x")
    for _ in range(4):
        await calls.later(receiving.PATIENCE_SECONDS)
    assert task.result() == b"x"
    await calls.later(receiving.RECEIVE_SECONDS)
    assert all(isinstance(one.result(), SealwrightError) for _, one in bad)
    assert calls.empty


async def test_f03_those_who_wait_are_bounded() -> None:
    calls = Calls()
    many = [calls.begin(f"peer {n % 100}") for n in range(PLACES + receiving.WAITING + 10)]
    await asyncio.sleep(0)
    refused = [task for _, task in many if task.done()]
    assert len(refused) == 10
    assert all(isinstance(task.result(), OverloadedError) for task in refused)
    for call, _ in many:
        call.message.set_result(b"x")
    results = await asyncio.wait_for(asyncio.gather(*(task for _, task in many)), 10)
    assert results.count(b"x") == len(many) - 10
    assert calls.empty


async def test_f03_connections_that_fill_all_waiting_places_give_way_to_another() -> None:
    calls = Calls()
    many = [calls.begin(f"peer {n % 22}") for n in range(PLACES + receiving.WAITING)]
    await asyncio.sleep(0)
    good, task = calls.begin("good")
    await calls.later(0)
    refused = [one for _, one in many if one.done()]
    assert len(refused) == 1
    assert isinstance(refused[0].result(), OverloadedError)
    for call, _ in many:
        call.message.set_result(b"x")
    good.message.set_result(b"y")
    assert await asyncio.wait_for(task, 5) == b"y"
    await asyncio.gather(*(one for _, one in many))
    assert calls.empty


async def test_f03_a_call_that_gives_way_and_is_reset_gives_back_no_place_that_it_never_had() -> None:
    calls = Calls()
    many = [calls.begin(f"peer {n % 22}") for n in range(PLACES + receiving.WAITING)]
    await asyncio.sleep(0)
    before = calls.receiving._receiving
    good, task = calls.begin("good")
    turns = [turn for group in calls.receiving._turns for turn in group.waiting]
    await asyncio.sleep(0)
    gone = [one for _, one in many if not one.done()]
    assert len(turns) == receiving.WAITING
    for one in gone:
        one.cancel()
    await asyncio.gather(*(one for _, one in many), return_exceptions=True)
    good.message.set_result(b"y")
    assert await asyncio.wait_for(task, 5) == b"y"
    assert before == PLACES
    assert calls.empty
    assert calls.receiving._waiting == 0


async def test_f03_a_request_that_has_come_waits_for_no_place() -> None:
    calls = Calls()
    bad = [calls.begin("bad") for _ in range(200)]
    await asyncio.sleep(0)
    whole = Call("bad")
    whole.complete = True
    whole.message.set_result(b"x")
    task = asyncio.current_task()
    assert task is not None
    assert await calls.receiving.receive(whole, task) == b"x"  # type: ignore[arg-type]
    for _, one in bad:
        one.cancel()
    await asyncio.gather(*(one for _, one in bad), return_exceptions=True)


async def test_f03_calls_that_are_reset_while_they_wait_do_not_count_as_waiting() -> None:
    calls = Calls()
    many = [calls.begin(f"peer {n % 100}") for n in range(PLACES + receiving.WAITING)]
    await asyncio.sleep(0)
    for _, task in many[PLACES:]:
        task.cancel()
    await asyncio.gather(*(task for _, task in many[PLACES:]), return_exceptions=True)
    late, task = calls.begin("late")
    await asyncio.sleep(0)
    assert not task.done()
    for call, _ in many[:PLACES]:
        call.message.set_result(b"x")
    late.message.set_result(b"y")
    assert await asyncio.wait_for(task, 1) == b"y"
    assert calls.empty


@pytest.mark.parametrize("seed", range(20))
async def test_f03_places_are_given_back_whatever_happens(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    calls = Calls()
    begun: list[tuple[Call, asyncio.Task[Any]]] = []
    for _ in range(600):
        step = chance.randrange(6)
        call, task = chance.choice(begun) if begun else (None, None)
        if step < 3 or call is None or task is None:
            begun.append(calls.begin(f"peer {chance.randrange(4)}"))
        elif step == 3 and not call.message.done():
            call.message.set_result(chance.choice([b"x", b"y" * MAX_MESSAGE, None]))
        elif step == 4:
            task.cancel()
        else:
            await calls.later(chance.choice([0, 0.1, 3]))
    for call, _ in begun:
        if not call.message.done():
            call.message.set_result(b"x")
    results = await asyncio.wait_for(asyncio.gather(*(t for _, t in begun), return_exceptions=True), 10)
    for result in results:
        if isinstance(result, bytes):
            calls.receiving.release(result)
    assert calls.empty
    assert calls.receiving._held == 0
    assert calls.receiving._waiting == 0
