"""A thousand signatures while a fifth of the calls to the backend fail, in every way that the emulator of the backend knows."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest

from contract.cryptoki_tap import CryptokiTap
from faults.misfortunes import AWS, AZURE, GCP, Misfortunes, OfEmulator, OfToken
from sealwright_testing.emulators.aws import AwsEmulator
from sealwright_testing.emulators.azure import AzureEmulator
from sealwright_testing.emulators.gcp import GcpEmulator
from sealwright_testing.softhsm import soft_hsm, softhsm_module
from support.document import document, issuer, series
from support.four_providers import PROVIDERS, aws_settings, azure_settings, faulty_module, gcp_settings
from support.service import Failure, Service, audit_records, running, until

CALLS = 1000
WIDTH = 32
DEADLINES = (0.3, 2.0)
PAUSE = 0.2
"""Callers wait after an error, since otherwise most calls would be made in the second for which a circuit breaker is open."""
RECOVERY_SECONDS = 5
LATE_SECONDS = 0.1
"""How much later than gRPC the event loop of this test may see an answer: it also runs the service and the clients. The longest
time for which it stood still, on a busy machine, comes on top."""
_TAPS: list[CryptokiTap] = []
"""Kept until the process ends, since modules have their addresses."""

Making = Callable[[int], Misfortunes]


@asynccontextmanager
async def backend(provider: str, directory: Path) -> AsyncIterator[tuple[dict[str, Any], Making]]:
    """Start a backend. Yield its table of the configuration, and what makes it fail."""
    if provider == "aws":
        async with AwsEmulator() as aws:
            yield aws_settings(aws), lambda seed: OfEmulator(seed, aws, "Sign", AWS, {"kind": "http_500"})
    elif provider == "gcp":
        with GcpEmulator() as gcp:
            yield gcp_settings(gcp), lambda seed: OfEmulator(seed, gcp, "AsymmetricSign", GCP, {"kind": "unavailable"})
    elif provider == "azure":
        async with AzureEmulator() as azure:
            settings = azure_settings(azure, directory)
            yield settings, lambda seed: OfEmulator(seed, azure, "Sign", AZURE, {"kind": "http_500"})
    else:
        module = faulty_module(directory)
        with soft_hsm(softhsm_module() or "") as hsm:
            tap = CryptokiTap(module.path)
            _TAPS.append(tap)
            yield hsm.settings(module=module.path, sessions=8), lambda seed: OfToken(seed, module, tap)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call and its result, by the clock of its caller.

    Attributes:
        deadline: Seconds that it might take.
        end: Seconds since the epoch at which it had to be over.
        took: Seconds that it took.
        answer: The answer, if there was one.
        failure: The failure otherwise.
    """

    deadline: float
    end: float
    took: float
    answer: Any = None
    failure: Failure | None = None


async def sign(service: Service, deadline: float) -> Call:
    """Sign a token with a deadline."""
    end, start = time.time() + deadline, time.perf_counter()
    try:
        answer = await service.sign(timeout=deadline)
    except grpc.aio.AioRpcError as error:
        return Call(deadline=deadline, end=end, took=time.perf_counter() - start, failure=Failure(error))
    return Call(deadline=deadline, end=end, took=time.perf_counter() - start, answer=answer)


class Pauses:
    """Measures for how long the event loop stands still.

    Attributes:
        longest: The longest time, in seconds.
    """

    def __init__(self) -> None:
        self.longest = 0.0

    async def run(self) -> None:
        """Measure until cancelled."""
        before = time.perf_counter()
        while True:
            await asyncio.sleep(0.005)
            now = time.perf_counter()
            self.longest, before = max(self.longest, now - before), now


async def sign_many(service: Service, seed: int) -> list[Call]:
    """Sign tokens, many at once, with random deadlines."""
    made: list[Call] = []
    chosen = random.Random(seed)  # noqa: S311 - repeatable, no secret
    numbers = itertools.count()

    async def one_after_another() -> None:
        while next(numbers) < CALLS:
            call = await sign(service, chosen.uniform(*DEADLINES))
            made.append(call)
            if call.failure:
                await asyncio.sleep(PAUSE)

    await asyncio.gather(*(one_after_another() for _ in range(WIDTH)))
    return made


def ended_by_client(call: Call) -> bool:
    """Tell whether the client ended the call itself at its deadline, so that no answer of the service could arrive."""
    return call.failure is not None and call.failure.code == "DEADLINE_EXCEEDED" and not call.failure.raw


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_failing_backends_never_make_a_bad_token_or_a_late_one(
    tmp_path: Path, provider: str, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("SEALWRIGHT_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
    async with backend(provider, tmp_path) as (settings, making):
        one = issuer("payments", series=[series("ES256", provider=provider)])
        config = document(tmp_path, "", one, providers={provider: settings})
        config["audit"]["refusals_per_minute"] = CALLS  # A slow machine may refuse some of a thousand at once.
        async with running(config) as service:
            await service.sign()
            keys = jwt.PyJWKSet.from_dict({"keys": list((await service.published()).values())})
            misfortunes = making(seed)
            task = asyncio.create_task(misfortunes.run())
            pauses = Pauses()
            watching = asyncio.create_task(pauses.run())
            start = time.perf_counter()
            try:
                calls = await sign_many(service, seed)
            finally:
                took = time.perf_counter() - start
                watching.cancel()
                if not task.done():
                    task.cancel()
                (ended,) = await asyncio.gather(task, return_exceptions=True)
                assert isinstance(ended, asyncio.CancelledError), ended
            await until(lambda: signs(service), seconds=RECOVERY_SECONDS)
            for recovered in [await sign(service, 2) for _ in range(20)]:
                assert recovered.answer, f"seed {seed}"
        failures = Counter(c.failure.reason or c.failure.code for c in calls if c.failure)
        with capsys.disabled():
            print(f"\n{provider}: seed {seed}, {took:.1f} s, {CALLS - failures.total()} tokens, {dict(failures)}")  # noqa: T201
        late = LATE_SECONDS + pauses.longest
        check(calls, keys, audit_records(config, "sign"), f"SEALWRIGHT_SEED={seed}", late=late)
        assert failures.total() >= CALLS * 0.01, misfortunes.done
        assert failures.total() <= CALLS * 0.9, failures
        assert len(misfortunes.done) >= 15, misfortunes.done


def check(calls: list[Call], keys: jwt.PyJWKSet, records: list[dict[str, Any]], seed: str, *, late: float) -> None:
    """Check all calls together. Answers may be seen so many seconds after their deadlines."""
    assert len(calls) == CALLS
    allowed = {r["jti"]: r for r in records if r["outcome"] == "allowed"}
    refused = {r["request_id"]: r for r in records if r["outcome"] != "allowed"}
    for call in calls:
        if call.failure is None:
            token, kid = call.answer.token, call.answer.kid
            claims = jwt.decode(token, keys[kid], ["ES256"], issuer="https://id.example.com/payments")
            assert call.took <= call.deadline + late, (seed, call)
            record = allowed[claims["jti"]]
            assert record["kid"] == kid, seed
            assert datetime.fromisoformat(record["time"]).timestamp() <= call.end, (seed, call, record)
        elif ended_by_client(call):
            assert call.took >= call.deadline * 0.99, (seed, call)
        else:
            assert call.failure.domain == "sealwright.dev", (seed, vars(call.failure))
            assert call.failure.reason, (seed, vars(call.failure))
            assert refused[call.failure.request_id]["reason"] == call.failure.reason, seed


async def signs(service: Service) -> bool:
    return (await sign(service, 2)).answer is not None
