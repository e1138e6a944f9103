from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from botocore.config import Config
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import load_der_public_key

from emulators.aws_support import Signer, connect, control
from sealwright_testing.emulators.aws import AwsEmulator
from support.waiting import until

if TYPE_CHECKING:
    from emulators.aws_support import Kms

SIGN = {"Message": b"m", "SigningAlgorithm": "ECDSA_SHA_256"}


def verifies(public: Any, signature: bytes) -> bool:
    try:
        if isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(signature, b"m", ec.ECDSA(hashes.SHA256()))
        else:
            public.verify(signature, b"m", padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


async def public_key(kms: Kms, arn: str) -> Any:
    return load_der_public_key((await kms("get_public_key", KeyId=arn))["PublicKey"])


async def test_c109_throttling_is_http_400_and_ends_after_its_times(kms: Kms, emulator: AwsEmulator) -> None:
    arn = await kms.key()
    emulator.add_fault("throttle", operation="Sign", times=2)
    for _ in range(2):
        refusal = await kms.refusal("sign", KeyId=arn, **SIGN)
        assert (refusal.code, refusal.status) == ("ThrottlingException", 400)
        assert (await kms("get_public_key", KeyId=arn))["KeyId"] == arn
    assert (await kms("sign", KeyId=arn, **SIGN))["Signature"]
    assert emulator.faults == ()
    assert emulator.calls["Sign"] == 3
    assert [r.outcome for r in emulator.requests if r.operation == "Sign"] == ["ThrottlingException"] * 2 + ["ok"]


async def test_a_fault_may_be_for_one_key_only(kms: Kms, emulator: AwsEmulator) -> None:
    first, second = await kms.key(), await kms.key()
    await kms("create_alias", AliasName="alias/first", TargetKeyId=first)
    for key_id in (first, first.rpartition("/")[2]):
        emulator.add_fault("throttle", key_id=key_id)
        for reference in (first, "alias/first"):
            assert await kms.code("sign", KeyId=reference, **SIGN) == "ThrottlingException"
        assert (await kms("sign", KeyId=second, **SIGN))["KeyId"] == second
        await kms("list_keys")
        emulator.clear_faults()
    assert (await kms("sign", KeyId=first, **SIGN))["KeyId"] == first


async def test_any_error_can_be_asked_for(kms: Kms, emulator: AwsEmulator) -> None:
    emulator.add_fault("error", type="KeyUnavailableException", status=500, message="no", retry_after=1.5, times=1)
    host = emulator.endpoint.removeprefix("http://")
    async with aiohttp.ClientSession() as session:
        headers = Signer().sign(host, "ListKeys", b"{}")
        async with session.post(emulator.endpoint, headers=headers, data=b"{}") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (500, "2")
            assert answer.headers["x-amzn-RequestId"]
            assert answer.content_type == "application/x-amz-json-1.1"
            assert await answer.json(content_type=None) == {"__type": "KeyUnavailableException", "message": "no"}
    emulator.add_fault("error", type="AccessDeniedException")
    refusal = await kms.refusal("list_keys")
    assert (refusal.code, refusal.status) == ("AccessDeniedException", 400)


async def test_http_500_is_an_internal_error(kms: Kms, emulator: AwsEmulator) -> None:
    emulator.add_fault("http_500", times=1)
    refusal = await kms.refusal("list_keys")
    assert (refusal.code, refusal.status) == ("KMSInternalException", 500)
    emulator.add_fault("http_500", status=503, type="ServiceUnavailable")
    refusal = await kms.refusal("list_keys")
    assert (refusal.code, refusal.status) == ("ServiceUnavailable", 503)


async def test_a_delay_comes_before_the_answer_and_before_a_later_fault(kms: Kms, emulator: AwsEmulator) -> None:
    emulator.add_fault("delay", operation="ListKeys", seconds=0.2)
    start = time.perf_counter()
    await kms("list_keys")
    assert time.perf_counter() - start >= 0.2
    emulator.add_fault("throttle", operation="ListKeys")
    start = time.perf_counter()
    assert await kms.code("list_keys") == "ThrottlingException"
    assert time.perf_counter() - start >= 0.2


async def test_a_delayed_request_does_not_keep_others_waiting(kms: Kms, emulator: AwsEmulator) -> None:
    emulator.add_fault("delay", operation="ListAliases", seconds=0.5)
    slow = asyncio.create_task(kms("list_aliases"))
    await asyncio.sleep(0.05)
    await kms("list_keys")
    assert not slow.done()
    await slow


async def test_c110_a_hanging_request_never_answers(emulator: AwsEmulator) -> None:
    emulator.add_fault("hang")
    config = Config(retries={"total_max_attempts": 1}, read_timeout=0.2)
    async with connect(emulator, config=config) as kms:
        with pytest.raises(ReadTimeoutError):
            await kms("list_keys")
    assert [r.outcome for r in emulator.requests] == ["hang"]


async def test_clearing_the_faults_lets_go_of_what_hangs(kms: Kms, emulator: AwsEmulator) -> None:
    emulator.add_fault("hang")
    waiting = asyncio.create_task(kms("list_keys"))
    await until(lambda: bool(emulator.requests))
    await control(emulator, "DELETE", "faults")
    with pytest.raises(ConnectionClosedError):
        await waiting
    assert (await kms("list_keys"))["Keys"] == []


async def test_stopping_does_not_wait_for_what_hangs() -> None:
    async with AwsEmulator() as emulator, connect(emulator) as kms:
        emulator.add_fault("hang")
        waiting = asyncio.create_task(kms("list_keys"))
        await until(lambda: bool(emulator.requests))
        start = time.perf_counter()
        await emulator.stop()
        assert time.perf_counter() - start < 3
        with pytest.raises(ConnectionClosedError):
            await waiting


async def test_a_dropped_connection_has_no_answer(kms: Kms, emulator: AwsEmulator) -> None:
    emulator.add_fault("drop_connection", times=1)
    with pytest.raises(ConnectionClosedError):
        await kms("create_key")
    assert not emulator.keys
    await kms("create_key")
    assert len(emulator.keys) == 1


@pytest.mark.parametrize("kind", ["drop_connection", "throttle", "http_500"])
async def test_c59_an_answer_may_be_lost_after_the_key_was_made(kms: Kms, emulator: AwsEmulator, kind: str) -> None:
    emulator.add_fault(kind, operation="CreateKey", times=1, after=True)
    with pytest.raises(Exception, match=r"Connection was closed|CreateKey"):
        await kms("create_key", Tags=[{"TagKey": "intent", "TagValue": "7"}])
    assert [key.tags for key in emulator.keys.values()] == [{"intent": "7"}]
    listed = await control(emulator, "GET", "keys")
    [(key_id, key)] = listed.items()
    assert key | {"creation_time": 0} == {
        "key_id": key_id,
        "arn": f"arn:aws:kms:eu-west-1:111122223333:key/{key_id}",
        "spec": "SYMMETRIC_DEFAULT",
        "usage": "ENCRYPT_DECRYPT",
        "state": "Enabled",
        "description": "",
        "tags": {"intent": "7"},
        "aliases": [],
        "creation_time": 0,
        "deletion_time": None,
    }


async def test_c59_a_client_that_gave_up_made_its_key_all_the_same(emulator: AwsEmulator) -> None:
    emulator.add_fault("delay", operation="CreateKey", seconds=5, after=True)
    config = Config(retries={"total_max_attempts": 1}, read_timeout=0.2)
    async with connect(emulator, config=config) as kms:
        with pytest.raises(ReadTimeoutError):
            await kms("create_key")
        assert len(emulator.keys) == 1
        await until(lambda: emulator.requests[0].outcome != "pending")
        assert emulator.requests[0].outcome == "gone"


async def test_malformed_json_is_half_an_answer(emulator: AwsEmulator) -> None:
    emulator.add_fault("malformed_json", operation="ListKeys", times=1)
    headers = Signer().sign(emulator.endpoint.removeprefix("http://"), "ListKeys", b"{}")
    async with (
        aiohttp.ClientSession() as session,
        session.post(emulator.endpoint, headers=headers, data=b"{}") as answer,
    ):
        assert (answer.status, await answer.text()) == (200, '{"Keys": [], "Tr')


async def test_botocore_gives_an_answer_without_a_signature_for_malformed_json(kms: Kms, emulator: AwsEmulator) -> None:
    arn = await kms.key()
    emulator.add_fault("malformed_json", operation="Sign", times=1)
    # boto3 does not raise here, so its user must check.
    assert "Signature" not in await kms("sign", KeyId=arn, **SIGN)
    assert "Signature" in await kms("sign", KeyId=arn, **SIGN)


async def test_new_keys_are_not_yet_visible_for_a_while(kms: Kms, emulator: AwsEmulator) -> None:
    old = await kms.key()
    emulator.add_fault("not_yet_visible", seconds=10, times=1)
    new = await kms.key()
    for operation, parameters in (("describe_key", {}), ("get_public_key", {}), ("sign", SIGN), ("disable_key", {})):
        assert await kms.code(operation, KeyId=new, **parameters) == "NotFoundException"
    assert await kms.code("create_alias", AliasName="alias/n", TargetKeyId=new) == "NotFoundException"
    assert [key["KeyArn"] for key in (await kms("list_keys"))["Keys"]] == [old]
    assert len(emulator.keys) == 2
    assert (await kms("get_public_key", KeyId=old))["KeyId"] == old
    later = await kms.key()
    assert (await kms("get_public_key", KeyId=later))["KeyId"] == later
    emulator.advance_clock(11)
    assert (await kms("get_public_key", KeyId=new))["KeyId"] == new
    assert new in {key["KeyArn"] for key in (await kms("list_keys"))["Keys"]}


async def test_one_operation_may_be_behind_the_others(kms: Kms, emulator: AwsEmulator) -> None:
    emulator.add_fault("not_yet_visible", operation="GetPublicKey", seconds=10)
    arn = await kms.key()
    assert (await kms("describe_key", KeyId=arn))["KeyMetadata"]["Arn"] == arn
    assert await kms.code("get_public_key", KeyId=arn) == "NotFoundException"


@pytest.mark.parametrize(
    ("spec", "algorithm"), [("ECC_NIST_P256", "ECDSA_SHA_256"), ("RSA_2048", "RSASSA_PKCS1_V1_5_SHA_256")]
)
async def test_a_wrong_signature_looks_right_and_does_not_verify(
    kms: Kms, emulator: AwsEmulator, spec: str, algorithm: str
) -> None:
    arn = await kms.key(spec)
    request = {"KeyId": arn, "Message": b"m", "SigningAlgorithm": algorithm}
    public = await public_key(kms, arn)
    right = await kms("sign", **request)
    emulator.add_fault("wrong_signature", times=1)
    wrong = await kms("sign", **request)
    assert wrong["KeyId"] == arn
    assert abs(len(wrong["Signature"]) - len(right["Signature"])) <= 4
    assert verifies(public, right["Signature"])
    assert not verifies(public, wrong["Signature"])
    assert verifies(public, (await kms("sign", **request))["Signature"])


async def test_a_truncated_signature_lacks_its_end(kms: Kms, emulator: AwsEmulator) -> None:
    arn = await kms.key("ECC_NIST_EDWARDS25519")
    emulator.add_fault("truncated_signature")
    answer = await kms("sign", KeyId=arn, Message=b"m", SigningAlgorithm="ED25519_SHA_512")
    assert (answer["KeyId"], len(answer["Signature"])) == (arn, 63)


async def test_another_key_answers_under_its_own_name(kms: Kms, emulator: AwsEmulator) -> None:
    arn = await kms.key()
    emulator.add_fault("other_key", operation="Sign")
    stranger = await kms("sign", KeyId=arn, **SIGN)
    assert stranger["KeyId"] != arn
    assert not verifies(await public_key(kms, arn), stranger["Signature"])
    assert len(emulator.keys) == 1
    twin = await kms.key()
    answer = await kms("sign", KeyId=arn, **SIGN)
    assert answer["KeyId"] == twin
    assert verifies(await public_key(kms, twin), answer["Signature"])
    emulator.add_fault("other_key", operation="GetPublicKey")
    assert (await kms("get_public_key", KeyId=arn))["KeyId"] == twin


async def test_macs_can_be_wrong_too(kms: Kms, emulator: AwsEmulator) -> None:
    arn = await kms.key("HMAC_256", "GENERATE_VERIFY_MAC")
    request = {"KeyId": arn, "Message": b"m", "MacAlgorithm": "HMAC_SHA_256"}
    right = (await kms("generate_mac", **request))["Mac"]
    emulator.add_fault("wrong_signature", times=1)
    wrong = (await kms("generate_mac", **request))["Mac"]
    assert (len(wrong), wrong == right) == (32, False)
    emulator.add_fault("truncated_signature", times=1)
    assert (await kms("generate_mac", **request))["Mac"] == right[:-1]


async def test_a_fault_of_signatures_is_not_used_up_by_other_operations(kms: Kms, emulator: AwsEmulator) -> None:
    arn = await kms.key("ECC_NIST_EDWARDS25519")
    emulator.add_fault("truncated_signature", times=1)
    await kms("list_keys")
    await kms("get_public_key", KeyId=arn)
    answer = await kms("sign", KeyId=arn, Message=b"m", SigningAlgorithm="ED25519_SHA_512")
    assert len(answer["Signature"]) == 63


async def test_of_two_faults_of_one_sort_the_first_is_used_up_first(kms: Kms, emulator: AwsEmulator) -> None:
    arn = await kms.key("ECC_NIST_EDWARDS25519")
    request = {"KeyId": arn, "Message": b"m", "SigningAlgorithm": "ED25519_SHA_512"}
    emulator.add_fault("truncated_signature", times=1)
    emulator.add_fault("wrong_signature", times=1)
    assert [len((await kms("sign", **request))["Signature"]) for _ in range(3)] == [63, 64, 64]
    emulator.add_fault("not_yet_visible", seconds=10, times=1)
    emulator.add_fault("not_yet_visible", seconds=100, times=1)
    keys = [await kms.key() for _ in range(3)]
    emulator.advance_clock(50)
    seen = {key["KeyArn"] for key in (await kms("list_keys"))["Keys"]}
    assert [key in seen for key in keys] == [True, False, True]
