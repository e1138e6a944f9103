from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

import aiohttp
import pytest

from emulators.aws_support import Signer, control, post
from sealwright_testing.emulators.aws import AwsEmulator, Fault, FaultKind

if TYPE_CHECKING:
    from emulators.aws_support import Kms

SIGN = {"Message": b"m", "SigningAlgorithm": "ECDSA_SHA_256"}


async def test_faults_can_be_set_seen_and_cleared_over_http(kms: Kms, emulator: AwsEmulator) -> None:
    one = {"kind": "throttle", "operation": "Sign", "times": 2}
    many = [{"kind": "delay", "seconds": 0.01}, {"kind": "error", "type": "X", "status": 418, "operation": "ListKeys"}]
    await control(emulator, "POST", "faults", one)
    await control(emulator, "POST", "faults", many)
    assert emulator.faults == (
        Fault(kind=FaultKind.THROTTLE, operation="Sign", times=2),
        Fault(kind=FaultKind.DELAY, seconds=0.01),
        Fault(kind=FaultKind.ERROR, operation="ListKeys", type="X", status=418),
    )
    assert (await kms.refusal("list_keys")).status == 418
    assert await kms.code("sign", KeyId="k", **SIGN) == "ThrottlingException"
    shown = await control(emulator, "GET", "faults")
    assert [(fault["kind"], fault.get("left")) for fault in shown] == [
        ("throttle", 1),
        ("delay", None),
        ("error", None),
    ]
    assert await control(emulator, "DELETE", "faults") == []
    assert (await kms("list_keys"))["Keys"] == []


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'"throttle"',
        b"{}",
        b'{"kind": "bogus"}',
        b'{"kind": "throttle", "unknown": 1}',
        b'{"kind": "delay"}',
        b'{"kind": "throttle", "times": 0}',
        b'{"kind": "delay", "seconds": -1}',
        b'{"kind": "delay", "seconds": "1"}',
        b'[{"kind": "throttle"}, {"kind": "bogus"}]',
    ],
)
async def test_faults_that_make_no_sense_are_refused_and_none_is_set(emulator: AwsEmulator, body: bytes) -> None:
    status, answer = await post(f"{emulator.endpoint}/_emulator/faults", {}, body)
    assert (status, list(answer)) == (400, ["message"])
    assert emulator.faults == ()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("clock", b"{}"),
        ("clock", b"[]"),
        ("credentials", b'{"access_key": "a"}'),
        ("keys/none", b'{"state": "Enabled"}'),
        ("keys/none", b'{"state": "Bogus"}'),
    ],
)
async def test_control_requests_that_make_no_sense_are_refused(emulator: AwsEmulator, path: str, body: bytes) -> None:
    status, answer = await post(f"{emulator.endpoint}/_emulator/{path}", {}, body)
    assert (status, list(answer)) == (400, ["message"])


async def test_requests_tell_that_only_digests_were_sent(kms: Kms, emulator: AwsEmulator) -> None:
    arn = await kms.key()
    await control(emulator, "POST", "calls/reset")
    digest = hashlib.sha256(b"m").digest()
    await kms("sign", KeyId=arn, Message=digest, MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_256")
    await kms("sign", KeyId=arn, **SIGN)
    [first, second] = await control(emulator, "GET", "requests")
    assert abs(first.pop("time") - time.time()) < 60
    assert first == {
        "operation": "Sign",
        "reference": arn,
        "key_id": arn.rpartition("/")[2],
        "message_type": "DIGEST",
        "algorithm": "ECDSA_SHA_256",
        "message_length": 32,
        "outcome": "ok",
    }
    assert (second["message_type"], second["message_length"]) == ("RAW", 1)


async def test_calls_are_counted_by_operation_and_by_key(kms: Kms, emulator: AwsEmulator) -> None:
    first, second = await kms.key(), await kms.key()
    for arn in (first, first, second):
        await kms("sign", KeyId=arn, **SIGN)
    await kms.refusal("sign", KeyId=first.replace("eu-west-1", "us-east-1"), **SIGN)
    assert await control(emulator, "GET", "calls") == {"CreateKey": 2, "Sign": 4}
    assert await control(emulator, "GET", f"calls?key_id={first}") == {"Sign": 2}
    assert emulator.calls_for(second.rpartition("/")[2]) == {"Sign": 1}
    assert await control(emulator, "GET", "calls?key_id=none") == {}
    emulator.reset_calls()
    assert (emulator.calls, emulator.requests) == ({}, ())


async def test_the_last_1000_requests_are_remembered(emulator: AwsEmulator) -> None:
    headers = Signer().sign(emulator.endpoint.removeprefix("http://"), "ListKeys", b"{}")
    async with aiohttp.ClientSession() as session:
        for _ in range(1001):
            async with session.post(emulator.endpoint, headers=headers, data=b"{}"):
                pass
    assert (len(emulator.requests), emulator.calls["ListKeys"]) == (1000, 1001)


async def test_bodies_that_are_no_json_are_counted_too(emulator: AwsEmulator) -> None:
    for body in (b"{", b"[]", b'{"Message": "?", "KeyId": 3}'):
        headers = Signer().sign(emulator.endpoint.removeprefix("http://"), "Sign", body)
        status, _ = await post(emulator.endpoint, headers, body)
        assert status == 400
    assert [r.message_length for r in emulator.requests] == [None, None, None]
    assert emulator.calls == {"Sign": 3}
