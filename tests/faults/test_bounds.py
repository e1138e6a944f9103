"""Kinds A and B: requests of any size, from callers with and without rights."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealwright.errors import RequestInvalidError, TokenTooLargeError
from sealwright.jose import claims
from sealwright.server.rpc import bounds
from sealwright.v1 import jwks_pb2, keys_pb2, signing_pb2
from sealwright.v1.jwks_pb2_grpc import JwksServiceStub
from sealwright.v1.keys_pb2_grpc import KeyServiceStub
from sealwright.v1.signing_pb2_grpc import SigningServiceStub
from sealwright_testing.emulators.aws import AwsEmulator
from support.document import CREDENTIALS, document
from support.processes import control, process, write_config
from support.service import audit_records, failure, running

REQUESTS = [
    message
    for module in (signing_pb2, keys_pb2, jwks_pb2)
    for message in vars(module).values()
    if isinstance(message, type) and message.__name__.endswith("Request")
]


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


def texts(message: Any) -> list[str]:
    return [f.name for f in message.DESCRIPTOR.fields if f.type == f.TYPE_STRING]


@pytest.mark.parametrize("message", REQUESTS, ids=lambda m: str(m.__name__))
def test_f07_every_text_field_of_every_request_has_a_bound(message: Any) -> None:
    unbounded = set(texts(message)) - set(bounds.MAX_CHARACTERS) - {"claims_json"}
    assert unbounded == set()


@pytest.mark.parametrize("message", REQUESTS, ids=lambda m: str(m.__name__))
@given(data=st.data())
@settings(max_examples=20, suppress_health_check=[HealthCheck.differing_executors], deadline=None)
def test_f07_what_is_longer_than_its_bound_is_refused(message: Any, data: st.DataObject) -> None:
    names = [n for n in texts(message) if n != "claims_json"]
    if not names:
        return
    name = data.draw(st.sampled_from(names))
    limit = bounds.MAX_CHARACTERS[name]
    many = message.DESCRIPTOR.fields_by_name[name].is_repeated
    size = data.draw(st.sampled_from([0, 1, limit - 1, limit, limit + 1, 4 * limit]))
    value = data.draw(st.sampled_from(["a", "\x01", "é", "\U0001f511"])) * size
    request = message(**{name: [value] if many else value})
    if size <= limit:
        bounds.check(request)
        return
    with pytest.raises(RequestInvalidError) as refused:
        bounds.check(request)
    assert [v.field for v in refused.value.violations] == [f"{name}[0]" if many else name]


def test_f04_many_audiences_and_long_claims_are_refused_without_being_looked_at() -> None:
    many = signing_pb2.SignJwtRequest(audience=[""] * 900_000)
    start = time.process_time()
    with pytest.raises(RequestInvalidError, match="audience"):
        bounds.check(many)
    with pytest.raises(TokenTooLargeError):
        bounds.check(signing_pb2.SignJwtRequest(claims_json="x" * 1_000_000))
    assert time.process_time() - start < 1


async def test_f04_f07_a_request_out_of_bounds_is_refused_before_permission_and_leaves_a_short_record(
    tmp_path: Any,
) -> None:
    async with AwsEmulator() as emulator:
        config = document(tmp_path, emulator.endpoint, grants=[])
        async with running(config) as service:
            bad = {"series": "\x01" * 1_900_000}
            refused = await failure(service.rotate(**bad))
            assert (refused.reason, set(refused.violations)) == ("REQUEST_INVALID", {"series"})
            refused = await failure(service.sign(subject="\x01" * 1_900_000))
            assert (refused.reason, set(refused.violations)) == ("REQUEST_INVALID", {"subject"})
            refused = await failure(service.rotate())
            assert refused.reason == "CALLER_NOT_PERMITTED"
        assert all(len(json.dumps(r)) < 2000 for r in audit_records(config))


async def test_f04_a_batch_of_repeated_names_does_not_hold_the_loop(tmp_path: Any) -> None:
    async with AwsEmulator() as emulator, running(document(tmp_path, emulator.endpoint)) as service:
        claims = "{" + ",".join(['"a":1'] * 10_000) + "}"
        one = signing_pb2.SignJwtRequest(issuer="issuers/payments", claims_json=claims)
        answer = await service.signing.BatchSignJwt(signing_pb2.BatchSignJwtRequest(requests=[one] * 32))
        assert {r.error.code for r in answer.results} == {grpc.StatusCode.INVALID_ARGUMENT.value[0]}


@pytest.mark.parametrize("refusals", [1, 1000])
async def test_f04_others_are_served_between_the_requests_of_a_batch_that_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    turns = 0
    seen: list[int] = []
    build = claims.build_claims

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def noted(*arguments: Any, **more: Any) -> Any:
        seen.append(turns)
        return build(*arguments, **more)

    monkeypatch.setattr("sealwright.signing.build_claims", noted)
    async with AwsEmulator() as emulator:
        config = document(tmp_path, emulator.endpoint)
        config["audit"]["refusals_per_minute"] = refusals
        async with running(config) as service:
            text = '{"x":[' + ",".join(["{}"] * 2300) + '],"x":1}'
            one = signing_pb2.SignJwtRequest(issuer="issuers/payments", claims_json=text)
            counting = asyncio.create_task(count())
            await service.signing.BatchSignJwt(signing_pb2.BatchSignJwtRequest(requests=[one] * 256), timeout=60)
            counting.cancel()
    assert len(seen) == 256
    most = max(Counter(seen).values())
    assert most < 64, "each takes more than 0.1 ms, and a turn a few ms"


def test_a_flood_of_signatures_holds_up_no_administration_no_set_and_no_health(tmp_path: Path) -> None:
    flood = signing_pb2.SignJwtRequest(issuer="issuers/payments", claims_json="{}")
    options = (("grpc.use_local_subchannel_pool", 1),)
    with (
        process(tmp_path, "sealwright-emulator", "aws", "--port", "0") as kms,
        process(
            tmp_path,
            "sealwright",
            "serve",
            "--config",
            write_config(tmp_path, document(tmp_path, kms.ready["endpoint"])),
        ) as service,
        ExitStack() as stack,
    ):
        address = service.ready["grpc"]
        channels = [stack.enter_context(grpc.insecure_channel(address, options=options)) for _ in range(32)]
        mine = stack.enter_context(grpc.insecure_channel(address, options=options))
        keys, sets = KeyServiceStub(mine), JwksServiceStub(mine)
        health: Any = health_pb2_grpc.HealthStub(mine)
        keys.ListIssuers(keys_pb2.ListIssuersRequest(), timeout=10)
        control(kms.ready["endpoint"], "faults", {"operation": "Sign", "kind": "delay", "seconds": 0.5})
        calls = [SigningServiceStub(c).SignJwt.future(flood, timeout=60) for c in channels for _ in range(100)]
        for _ in range(3):
            keys.ListKeys(keys_pb2.ListKeysRequest(parent="issuers/payments"), timeout=20)
            sets.GetJwks(jwks_pb2.GetJwksRequest(issuer="issuers/payments"), timeout=20)
            health.Check(health_pb2.HealthCheckRequest(), timeout=20)
        waiting = sum(not call.done() for call in calls)
        outcomes = Counter(call.code().name for call in calls)
    assert waiting
    assert outcomes["OK"] > 100
    assert set(outcomes) == {"OK", "RESOURCE_EXHAUSTED"}, "each is answered, and none is dropped"
