from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from emulators.aws_support import Signer, connect, control, post
from sealwright_testing.emulators.aws import AwsEmulator, Credential

if TYPE_CHECKING:
    from emulators.aws_support import Kms


async def send(
    emulator: AwsEmulator, signer: Signer, operation: str = "ListKeys", **extra: str
) -> tuple[int, str, str]:
    headers = signer.sign(emulator.endpoint.removeprefix("http://"), operation, b"{}", **extra)
    status, answer = await post(emulator.endpoint, headers, b"{}")
    return status, answer.get("__type", "ok"), answer.get("message", "")


async def test_a_right_signature_is_let_in(emulator: AwsEmulator) -> None:
    assert await send(emulator, Signer()) == (200, "ok", "")


@pytest.mark.parametrize("age", [timedelta(minutes=4, seconds=50), -timedelta(minutes=4, seconds=50)])
async def test_a_clock_may_be_wrong_by_less_than_five_minutes(emulator: AwsEmulator, age: timedelta) -> None:
    assert await send(emulator, Signer(age=age)) == (200, "ok", "")


@pytest.mark.parametrize(
    ("signer", "message"),
    [
        (Signer(secret_key="wrong"), "The request signature we calculated does not match"),
        (Signer(age=timedelta(minutes=6)), "Signature expired"),
        (Signer(age=-timedelta(minutes=6)), "Signature not yet current"),
        (Signer(scope_date="20200101"), "Date in Credential scope does not match"),
        (Signer(region="us-east-1"), "Credential should be scoped to a valid region"),
        (Signer(service="s3"), "Credential should be scoped to correct service: 'kms'"),
        (Signer(terminator="aws5_request"), "Credential should be scoped with a valid terminator"),
        (Signer(unsigned=("host",)), "'Host' or ':authority' must be a 'SignedHeader'"),
        (Signer(unsigned=("x-amz-date",)), "'x-amz-date' must be a 'SignedHeader'"),
        (Signer(unsigned=("x-amz-target",)), "'x-amz-target' must be a 'SignedHeader'"),
    ],
)
async def test_wrong_signatures_are_refused(emulator: AwsEmulator, signer: Signer, message: str) -> None:
    status, kind, text = await send(emulator, signer)
    assert (status, kind) == (400, "InvalidSignatureException")
    assert text.startswith(message)


async def test_content_type_need_not_be_signed(emulator: AwsEmulator) -> None:
    assert await send(emulator, Signer(unsigned=("content-type",))) == (200, "ok", "")


async def test_a_body_other_than_the_signed_one_is_refused(emulator: AwsEmulator) -> None:
    headers = Signer().sign(emulator.endpoint.removeprefix("http://"), "CreateKey", b"{}")
    status, answer = await post(emulator.endpoint, headers, b'{"Description": "changed on the way"}')
    assert (status, answer["__type"]) == (400, "InvalidSignatureException")
    assert not emulator.keys


async def test_a_target_other_than_the_signed_one_is_refused(emulator: AwsEmulator) -> None:
    headers = Signer().sign(emulator.endpoint.removeprefix("http://"), "ListKeys", b"{}")
    status, answer = await post(emulator.endpoint, headers | {"x-amz-target": "TrentService.CreateKey"}, b"{}")
    assert (status, answer["__type"]) == (400, "InvalidSignatureException")
    assert not emulator.keys


async def test_a_request_for_another_host_is_refused(emulator: AwsEmulator) -> None:
    headers = Signer().sign("kms.eu-west-1.amazonaws.com", "ListKeys", b"{}")
    del headers["host"]
    status, answer = await post(emulator.endpoint, headers, b"{}")
    assert (status, answer["__type"]) == (400, "InvalidSignatureException")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"authorization": "Basic dGVzdDp0ZXN0"}, "Unsupported AWS 'algorithm'"),
        ({"authorization": "AWS4-HMAC-SHA256 "}, "Authorization header requires 'Credential' parameter."),
        (
            {"authorization": "AWS4-HMAC-SHA256 Credential=test, SignedHeaders=host, Signature=00"},
            "Credential must have exactly 5 slash-delimited elements",
        ),
        ({"x-amz-date": ""}, "Date must be in ISO-8601 'basic format'"),
        ({"x-amz-date": "yesterday"}, "Date must be in ISO-8601 'basic format'"),
        ({"x-amz-date": None}, "Authorization header requires existence of either a 'X-Amz-Date'"),
    ],
)
async def test_incomplete_signatures_are_refused(emulator: AwsEmulator, change: dict[str, Any], message: str) -> None:
    headers = Signer().sign(emulator.endpoint.removeprefix("http://"), "ListKeys", b"{}") | change
    sent = {name: value for name, value in headers.items() if value is not None}
    status, answer = await post(emulator.endpoint, sent, b"{}")
    assert (status, answer["__type"]) == (400, "IncompleteSignatureException")
    assert answer["message"].startswith(message)


async def test_other_algorithms_are_refused(emulator: AwsEmulator) -> None:
    status, kind, _ = await send(emulator, Signer(algorithm="AWS4-HMAC-SHA512"))
    assert (status, kind) == (400, "IncompleteSignatureException")


async def test_no_signature_at_all_is_refused(emulator: AwsEmulator) -> None:
    status, answer = await post(emulator.endpoint, {"x-amz-target": "TrentService.ListKeys"}, b"{}")
    assert (status, answer["__type"]) == (400, "MissingAuthenticationTokenException")


async def test_unknown_access_keys_are_refused(emulator: AwsEmulator) -> None:
    status, kind, text = await send(emulator, Signer(access_key="stranger"))
    assert (status, kind) == (400, "UnrecognizedClientException")
    assert text == "The security token included in the request is invalid."


async def test_a_session_token_must_be_the_right_one(emulator: AwsEmulator) -> None:
    emulator.add_credential(Credential(access_key="temporary", secret_key="s", session_token="token"))
    signer = Signer(access_key="temporary", secret_key="s")
    assert (await send(emulator, signer, x_amz_security_token="token"))[1] == "ok"
    assert (await send(emulator, signer, x_amz_security_token="other"))[1] == "UnrecognizedClientException"
    assert (await send(emulator, signer))[1] == "UnrecognizedClientException"
    assert (await send(emulator, Signer(), x_amz_security_token="token"))[1] == "UnrecognizedClientException"


async def test_c113_expired_temporary_credentials_are_refused_and_new_ones_work(emulator: AwsEmulator) -> None:
    old = {"access_key": "old", "secret_key": "s", "session_token": "t1", "expire_in_seconds": 3600}
    await control(emulator, "POST", "credentials", old)
    options = {"aws_access_key_id": "old", "aws_secret_access_key": "s", "aws_session_token": "t1"}
    async with connect(emulator, **options) as kms:
        await kms("list_keys")
        emulator.expire_credential("old")
        refusal = await kms.refusal("list_keys")
        assert (refusal.code, refusal.status) == ("ExpiredTokenException", 400)
        assert refusal.message == "The security token included in the request is expired"
    emulator.add_credential(Credential(access_key="new", secret_key="s", session_token="t2"))
    async with connect(emulator, **options | {"aws_access_key_id": "new", "aws_session_token": "t2"}) as kms:
        await kms("list_keys")


async def test_own_credentials_region_and_account() -> None:
    async with AwsEmulator(
        region="us-gov-west-1", account="000000000001", access_key="AKIAX", secret_key="a/b+c"
    ) as emulator:
        async with connect(emulator) as kms:
            assert (await kms.key()).startswith("arn:aws:kms:us-gov-west-1:000000000001:key/")
        async with connect(emulator, region_name="eu-west-1") as kms:
            assert await kms.code("list_keys") == "InvalidSignatureException"
        async with connect(emulator, aws_secret_access_key="wrong") as kms:
            assert await kms.code("list_keys") == "InvalidSignatureException"


async def test_operations_that_are_not_emulated_are_unknown(emulator: AwsEmulator, kms: Kms) -> None:
    assert (await send(emulator, Signer(), "NoSuchOperation"))[:2] == (400, "UnknownOperationException")
    assert await kms.code("generate_random", NumberOfBytes=1) == "UnknownOperationException"
    for headers in ({}, {"x-amz-target": "DynamoDB_20120810.ListTables"}):
        status, answer = await post(emulator.endpoint, headers, b"{}")
        assert (status, answer["__type"]) == (400, "UnknownOperationException")


async def test_a_query_is_part_of_what_is_signed(emulator: AwsEmulator) -> None:
    headers = Signer().sign(emulator.endpoint.removeprefix("http://"), "ListKeys", b"{}")
    status, answer = await post(f"{emulator.endpoint}/?a=b", headers, b"{}")
    assert (status, answer["__type"]) == (400, "InvalidSignatureException")
