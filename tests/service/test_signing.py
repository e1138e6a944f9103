"""SignJwt, over real gRPC and a real emulator."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from sealwright.v1 import signing_pb2
from sealwright_testing.emulators.aws import AwsEmulator, KeyState
from support.document import document, issuer, series
from support.service import Failure, Service, audit_records, failure, running

NINE = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")


def segments(token: str) -> list[bytes]:
    return [base64.urlsafe_b64decode(s + "=" * (-len(s) % 4)) for s in token.split(".")]


async def test_all_nine_algorithms_sign_and_verify_from_the_served_set(tmp_path: Path, emulator: AwsEmulator) -> None:
    async with running(
        document(tmp_path, emulator.endpoint, issuer("payments", *NINE, mixed_key_types=True))
    ) as service:
        for algorithm in NINE:
            signed = await service.sign('{"scope":"pay"}', algorithm=algorithm, subject="user-1")
            assert signed.algorithm == algorithm
            assert (await service.verify(signed.token))["sub"] == "user-1"


async def test_the_answer_says_what_the_token_says(service: Service) -> None:
    before = int(time.time()) - 1  # The service goes by the beginning of its last read of the clock, to be never ahead.
    signed = await service.sign('{"a":1}', audience=["https://api.example"], subject="s", token_type="at+jwt")
    header, payload, _ = segments(signed.token)
    claims = json.loads(payload)
    assert header == b'{"alg":"ES256","kid":"%s","typ":"at+jwt"}' % signed.kid.encode()
    assert claims["iss"] == "https://id.example.com/payments"
    assert claims["aud"] == "https://api.example"
    assert claims["jti"] == signed.jwt_id
    assert before <= claims["iat"] == signed.issue_time.seconds <= time.time()
    assert claims["exp"] == signed.expire_time.seconds == claims["iat"] + 600
    assert "nbf" not in claims


async def test_c60_times_are_integers_and_c61_numbers_keep_their_digits(service: Service) -> None:
    signed = await service.sign('{"uid":9007199254740993,"price":1.10}')
    payload = segments(signed.token)[1].decode()
    assert re.search(r'"iat":\d+,"exp":\d+,', payload)
    assert '"uid":9007199254740993,"price":1.10}' in payload


async def test_c67_no_token_is_from_the_future(service: Service) -> None:
    for _ in range(5):
        signed = await service.sign()
        assert json.loads(segments(signed.token)[1])["iat"] <= time.time()


async def test_c74_a_token_has_exactly_max_token_bytes_or_is_refused_with_both_sizes(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    async with running(document(tmp_path, emulator.endpoint, issuer("payments", max_token_bytes=1024))) as service:
        plain = len((await service.sign('{"x":""}')).token)
        room = next(n for n in range(1024) if (plain + (n * 4 + 2) // 3) >= 1024) - 4
        sizes: list[int] = []
        refused: list[Failure] = []
        for n in range(room, room + 8):
            claims = json.dumps({"x": "y" * n})
            try:
                sizes.append(len((await service.sign(claims)).token))
            except grpc.aio.AioRpcError as error:
                refused.append(Failure(error))
        assert max(sizes) in {1023, 1024}  # base64url has no text of every length
        assert {r.reason for r in refused} == {"TOKEN_TOO_LARGE"}
        assert {r.metadata["limit"] for r in refused} == {"1024"}
        assert min(int(r.metadata["size"]) for r in refused) > 1024


async def test_c77_the_caller_cannot_set_what_the_service_owns(service: Service) -> None:
    for claims in ('{"iss":"https://evil"}', '{"iat":1}', '{"jti":"mine"}', '{"\\u0069ss":"https://evil"}'):
        refused = await failure(service.sign(claims))
        assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "CLAIM_NOT_ALLOWED"), claims


async def test_c33_an_algorithm_that_no_series_has_costs_no_kms_call(service: Service, emulator: AwsEmulator) -> None:
    emulator.reset_calls()
    for algorithm in ("RS256", "HS256", "none", "None", "ES256 ", "es256"):
        refused = await failure(service.sign(algorithm=algorithm))
        assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "ALGORITHM_NOT_SUPPORTED"), algorithm
    assert emulator.calls.get("Sign", 0) == 0


async def test_every_violation_is_said_at_once(service: Service) -> None:
    refused = await failure(
        service.sign('{"a":NaN,"b":{"c":1,"c":2},"exp":true,"aud":[]}', lifetime={"seconds": 1, "nanos": 1_000}),
    )
    assert refused.reason == "REQUEST_INVALID"
    assert refused.domain == "sealwright.dev"
    assert {"claims_json.a", "claims_json.b.c", "claims_json.exp", "claims_json.aud", "lifetime"} <= set(
        refused.violations
    )


async def test_violations_are_cut_to_what_fits_into_trailers(service: Service) -> None:
    claims = "{" + ",".join(f'"{"n" * 60}{i}":NaN' for i in range(80)) + "}"
    refused = await failure(service.sign(claims))
    assert refused.reason == "REQUEST_INVALID"
    assert len(refused.violations) <= 51
    assert len(refused.raw) < 8192
    assert any("more" in d for d in refused.violations.values())


async def test_c131_an_error_says_nothing_of_the_kms(service: Service, emulator: AwsEmulator) -> None:
    emulator.add_fault(
        "error", operation="Sign", type="AccessDeniedException", status=400, message="User: arn:aws:iam::1 is not"
    )
    refused = await failure(service.sign())
    assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "PROVIDER_ACCESS_DENIED")
    for secret in (b"arn:", b"111122223333", b"127.0.0.1", b"is not"):
        assert secret not in refused.raw + refused.message.encode()


async def test_c52_a_token_is_signed_by_the_key_that_its_kid_names(service: Service) -> None:
    keys = {k.kid: k.key_uri for k in await service.list_keys()}
    signed = await service.sign()
    assert signed.kid in keys
    await service.verify(signed.token)


async def test_c56_one_token_costs_one_kms_call(service: Service, emulator: AwsEmulator) -> None:
    emulator.reset_calls()
    for _ in range(10):
        await service.sign()
    assert emulator.calls["Sign"] == 10
    assert sum(emulator.calls.values()) == 10


async def test_c109_throttling_is_an_answer_and_no_storm(service: Service, emulator: AwsEmulator) -> None:
    emulator.add_fault("throttle", operation="Sign")
    emulator.reset_calls()
    answers = [await failure(call) for call in [service.sign() for _ in range(20)]]
    assert {(a.code, a.reason) for a in answers} == {("RESOURCE_EXHAUSTED", "PROVIDER_THROTTLED")}
    assert all(a.retry_after is not None for a in answers)


@pytest.mark.parametrize("seconds", [3601.0, 1e12, 1e20, 1e300])
async def test_c109_a_kms_cannot_ask_callers_to_wait_for_longer_than_an_hour(
    service: Service, emulator: AwsEmulator, seconds: float
) -> None:
    emulator.add_fault("error", operation="Sign", type="ThrottlingException", retry_after=seconds, status=400)
    refused = await failure(service.sign(timeout=5))
    assert (refused.code, refused.reason, refused.retry_after) == ("RESOURCE_EXHAUSTED", "PROVIDER_THROTTLED", 3600)
    batch = signing_pb2.BatchSignJwtRequest(requests=[signing_pb2.SignJwtRequest(issuer="issuers/payments")])
    (result,) = (await service.signing.BatchSignJwt(batch, timeout=5)).results
    assert result.error.message == refused.message
    assert emulator.calls["Sign"] <= 40


async def test_c110_a_hung_kms_ends_with_the_callers_deadline(service: Service, emulator: AwsEmulator) -> None:
    emulator.add_fault("hang", operation="Sign")
    start = time.monotonic()
    refused = await failure(service.sign(timeout=0.5))
    assert refused.code == "DEADLINE_EXCEEDED"
    assert time.monotonic() - start < 2
    emulator.clear_faults()
    assert (await service.sign()).token


async def test_c49_a_disabled_key_is_no_reason_to_stop_other_issuers(tmp_path: Path, emulator: AwsEmulator) -> None:
    async with running(document(tmp_path, emulator.endpoint, issuer("a"), issuer("b"))) as service:
        for key in await service.list_keys("a"):
            emulator.set_key_state(key.key_uri.rpartition("/")[2], KeyState.DISABLED)
        refused = await failure(service.sign(issuer="a"))
        assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "PROVIDER_KEY_DISABLED")
        assert (await service.sign(issuer="b")).token


async def test_c49_a_disabled_active_key_costs_one_call_and_the_standby_signs_once_it_is_revoked(
    service: Service,
    emulator: AwsEmulator,
) -> None:
    active, standby = await service.list_keys()
    emulator.set_key_state(active.key_uri.rpartition("/")[2], KeyState.DISABLED)
    emulator.reset_calls()
    refused = await failure(service.sign())
    assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "PROVIDER_KEY_DISABLED")
    assert emulator.calls["Sign"] == 1
    await service.revoke(active.kid)
    signed = await service.sign()
    assert signed.kid == standby.kid
    await service.verify(signed.token)


async def test_with_the_first_provider_down_the_next_series_signs_already_published(
    tmp_path: Path,
    emulator: AwsEmulator,
) -> None:
    async with AwsEmulator() as second:
        both = issuer("payments", series=[series(name="first"), series(name="second", provider="other")])
        config = document(tmp_path, emulator.endpoint, both)
        config["providers"]["other"] = config["providers"]["aws"] | {"endpoint_url": second.endpoint}
        async with running(config) as service:
            keys = {k.kid: k.series for k in await service.list_keys()}
            assert keys[(await service.sign()).kid] == "first"
            published = await service.published()
            emulator.add_fault("http_500", operation="Sign")
            signed = await service.sign()
            assert keys[signed.kid] == "second"
            assert signed.kid in published
            await service.verify(signed.token)


async def test_concurrent_requests_each_get_their_own_token(service: Service) -> None:
    signed = await asyncio.gather(*(service.sign(json.dumps({"n": n})) for n in range(100)))
    seen = [json.loads(segments(s.token)[1]) for s in signed]
    assert [c["n"] for c in seen] == list(range(100))
    assert len({c["jti"] for c in seen}) == 100
    for one in signed[:10]:
        await service.verify(one.token)


async def test_an_unknown_issuer_is_not_found_and_a_malformed_name_is_invalid(service: Service) -> None:
    assert (await failure(service.sign(issuer="none"))).reason == "ISSUER_NOT_FOUND"
    for name in ("", "a/b", "x" * 100):
        assert (await failure(service.sign(issuer=name))).reason == "REQUEST_INVALID", name


async def test_a_token_type_must_be_one_of_the_issuers(service: Service) -> None:
    refused = await failure(service.sign(token_type="logout+jwt"))
    assert (refused.reason, list(refused.violations)) == ("REQUEST_INVALID", ["token_type"])


async def test_bytes_that_are_no_request_are_an_invalid_argument(service: Service) -> None:
    call: Any = service.channel.unary_unary("/sealwright.v1.SigningService/SignJwt")
    refused = await failure(call(b"\xff\xff\xff"))
    assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "REQUEST_INVALID")


async def test_every_attempt_leaves_exactly_one_audit_record(service: Service, emulator: AwsEmulator) -> None:
    signed = await service.sign("{}", subject="user-1", audience=["x"])
    await failure(service.sign('{"iss":"x"}'))
    await failure(service.sign(issuer="none"))
    emulator.add_fault("throttle", operation="Sign")
    await failure(service.sign())
    records: list[dict[str, Any]] = audit_records(service.document, "sign")
    assert [(r["outcome"], r["reason"]) for r in records] == [
        ("allowed", ""),
        ("failed", "CLAIM_NOT_ALLOWED"),
        ("failed", "ISSUER_NOT_FOUND"),
        ("failed", "PROVIDER_THROTTLED"),
    ]
    first = records[0]
    assert (first["caller"], first["kid"], first["jti"], first["sub"]) == ("local", signed.kid, signed.jwt_id, "user-1")
    everything = json.dumps(records)
    assert signed.token not in everything
    assert signed.token.rpartition(".")[2] not in everything
    assert "arn:" not in everything


@pytest.mark.parametrize("claims", ["[]", "", "nul", '{"a":1}x', '{"a":', "1", '"x"'])
async def test_what_is_no_object_is_refused_and_nothing_counts_as_empty(service: Service, claims: str) -> None:
    if claims == "":
        assert (await service.sign(claims)).token
    else:
        assert (await failure(service.sign(claims))).reason == "REQUEST_INVALID"
