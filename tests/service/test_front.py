"""Batches, verification, discovery, PEM, metrics and reflection."""

from __future__ import annotations

import asyncio
import errno
import json
import time
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from sealwright.jose import base64url
from sealwright.v1 import signing_pb2
from sealwright_testing.emulators.aws import AwsEmulator
from support.document import document, issuer, series
from support.service import Service, audit_records, failure, running

One = signing_pb2.SignJwtRequest


async def batch(service: Service, *requests: Any, **more: Any) -> Any:
    return await service.signing.BatchSignJwt(signing_pb2.BatchSignJwtRequest(requests=requests), **more)


async def verify(service: Service, token: str, **more: Any) -> Any:
    fields: dict[str, Any] = {"issuer": "issuers/payments", "skip_audience_check": "audience" not in more} | more
    return await service.signing.VerifyJwt(signing_pb2.VerifyJwtRequest(token=token, **fields))


async def check_of(service: Service, token: str, **more: Any) -> str:
    refused = await failure(verify(service, token, **more))
    assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "TOKEN_INVALID")
    return refused.metadata["check"]


async def test_a_batch_answers_each_request_in_order(service: Service) -> None:
    good = [One(issuer="issuers/payments", claims_json=json.dumps({"n": n})) for n in range(5)]
    bad = One(issuer="issuers/payments", claims_json='{"iss":"x"}')
    answer = await batch(service, *good[:2], bad, *good[2:])
    kinds = [r.WhichOneof("result") for r in answer.results]
    assert kinds == ["response", "response", "error", "response", "response", "response"]
    numbers = [
        jwt.decode(r.response.token, options={"verify_signature": False})["n"]
        for r in answer.results
        if r.response.token
    ]
    assert numbers == [0, 1, 2, 3, 4]
    info = error_details_pb2.ErrorInfo()
    answer.results[2].error.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("CLAIM_NOT_ALLOWED", "sealwright.dev")
    assert len(audit_records(service.document, "sign")) == 6
    assert len({r["request_id"] for r in audit_records(service.document, "sign")}) == 6


async def test_a_batch_has_1_to_256_requests_and_2_mib(service: Service) -> None:
    assert len((await batch(service, *[One(issuer="issuers/payments")] * 256)).results) == 256
    for requests in ([], [One()] * 257, [One(issuer="issuers/payments", claims_json="x" * 60_000)] * 36):
        refused = await failure(batch(service, *requests))
        assert refused.code in {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}
        if refused.code == "INVALID_ARGUMENT":
            assert list(refused.violations) == ["requests"]


async def test_a_batch_is_signed_side_by_side(service: Service, emulator: AwsEmulator) -> None:
    emulator.add_fault("delay", operation="Sign", seconds=0.2)
    answer = await batch(service, *[One(issuer="issuers/payments")] * 30, timeout=3)
    assert all(r.WhichOneof("result") == "response" for r in answer.results)


async def test_a_good_token_verifies_with_its_claims_to_the_byte(service: Service) -> None:
    signed = await service.sign('{"n":9007199254740993,"f":1.50}', audience=["a", "b"])
    verified = await verify(service, signed.token, audience="b")
    assert '"n":9007199254740993,"f":1.50}' in verified.claims_json
    assert (verified.kid, verified.expire_time) == (signed.kid, signed.expire_time)


async def test_each_check_of_a_token_has_its_name(tmp_path: Path, emulator: AwsEmulator) -> None:
    two = [issuer("payments", "ES256", "RS256"), issuer("other")]
    async with running(document(tmp_path, emulator.endpoint, *two)) as service:
        token = (await service.sign("{}", audience=["x"])).token
        header, payload, signature = token.split(".")
        assert await check_of(service, "no.token") == "format"
        assert await check_of(service, token + "=") == "format"
        assert await check_of(service, f"{header}.{payload}.{signature[:-4]}AAAA") == "signature"
        assert await check_of(service, f"{header}.{payload[:-1]}.{signature}") in {"format", "signature"}
        assert await check_of(service, token, audience="y") == "audience"
        assert await check_of(service, token, issuer="issuers/other") == "kid"
        assert await check_of(service, _with_header(token, alg="RS256")) == "alg"
        assert await check_of(service, _with_header(token, alg="none")) == "alg"
        assert await check_of(service, _with_header(token, kid="x")) == "kid"
        assert await check_of(service, _with_header(token, typ="logout+jwt")) == "typ"
        assert await check_of(service, _with_header(token, crit=["b64"])) == "typ"


async def test_a_token_is_good_for_its_lifetime_only(service: Service) -> None:
    later = await service.sign("{}", lifetime={"seconds": 3600}, not_before=_in(600))
    assert await check_of(service, later.token) == "times"
    short = await service.sign("{}", lifetime={"seconds": 1})
    await asyncio.sleep(1.1)
    assert await check_of(service, short.token) == "times"


async def test_a_revoked_key_verifies_nothing(service: Service) -> None:
    signed = await service.sign()
    await verify(service, signed.token)
    await service.revoke(signed.kid)
    assert await check_of(service, signed.token) == "kid"


async def test_a_request_to_verify_names_an_audience_or_says_to_skip_it(service: Service) -> None:
    for fields in ({"skip_audience_check": False}, {"audience": "x", "skip_audience_check": True}):
        refused = await failure(verify(service, "x", **fields))
        assert "audience" in refused.violations


@pytest.mark.parametrize(
    "url",
    ["https://id.example.com", "https://id.example.com/", "https://id.example.com/t/1", "HTTPS://ID.example.com/x"],
)
async def test_c94_c95_discovery_says_iss_to_the_byte_and_where_the_set_is(
    tmp_path: Path, emulator: AwsEmulator, url: str
) -> None:
    both = issuer("payments", "ES384", "RS256", url=url)
    async with running(document(tmp_path, emulator.endpoint, both)) as service:
        path = "/" + url.partition("://")[2].partition("/")[2].rstrip("/")
        openid = f"{path.rstrip('/')}/.well-known/openid-configuration"
        oauth = f"/.well-known/oauth-authorization-server{path.rstrip('/')}"
        for where in (openid, oauth):
            status, headers, body = await service.get(where)
            found = json.loads(body)
            assert status == 200
            assert found["issuer"] == url
            assert found["id_token_signing_alg_values_supported"] == ["ES384", "RS256"]
            assert found["subject_types_supported"] == ["public"]
            assert headers["Cache-Control"].startswith("public, max-age=300")
            jwks_path = "/" + found["jwks_uri"].partition("://")[2].partition("/")[2]
            assert (await service.get(jwks_path))[0] == 200
            assert (await service.get(where, If_None_Match=headers["ETag"]))[0] == 304
        claims = jwt.decode((await service.sign()).token, options={"verify_signature": False})
        assert claims["iss"] == url


async def test_a_key_is_there_as_pem_for_verifiers_that_read_no_jwk_set(service: Service) -> None:
    signed = await service.sign()
    status, headers, pem = await service.get(f"/payments/keys/{signed.kid}.pem")
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, "*")
    assert pem.startswith(b"-----BEGIN PUBLIC KEY-----\n")
    jwt.decode(signed.token, pem, algorithms=["ES256"], issuer="https://id.example.com/payments")
    await service.revoke(signed.kid)
    for gone in (signed.kid, "x", "../x", ""):
        status, headers, _ = await service.get(f"/payments/keys/{gone}.pem")
        assert (status, headers["Cache-Control"]) == (404, "no-store")


async def test_c88_the_content_type_of_the_set_is_a_setting(tmp_path: Path, emulator: AwsEmulator) -> None:
    strict = issuer("payments", jwks={"content_type": "application/jwk-set+json"})
    async with running(document(tmp_path, emulator.endpoint, strict)) as service:
        for accept in ("application/json", "application/jwk-set+json", "*/*", "text/html"):
            status, headers, _ = await service.get("/payments/.well-known/jwks.json", Accept=accept)
            assert (status, headers["Content-Type"]) == (200, "application/jwk-set+json")


async def test_metrics_count_what_happened_and_are_on_the_admin_listener_alone(
    service: Service, emulator: AwsEmulator
) -> None:
    emulator.add_fault("wrong_signature", operation="Sign", times=1)
    await failure(service.sign())
    await failure(service.sign('{"iss":"x"}'))
    kid = (await service.sign()).kid
    status, headers, body = await service.get("/metrics", at="admin")
    text = body.decode()
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    assert 'sealwright_rpcs_total{code="OK",method="SignJwt",reason=""}' in text
    assert 'sealwright_rpcs_total{code="INVALID_ARGUMENT",method="SignJwt",reason="CLAIM_NOT_ALLOWED"}' in text
    assert f'sealwright_tokens_total{{issuer="payments",kid="{kid}"}} 1.0' in text
    assert 'sealwright_signatures_rejected_total{provider="aws"}' in text
    assert 'sealwright_kms_calls_total{operation="sign",outcome="ok",provider="aws"}' in text
    assert 'sealwright_keys{issuer="payments",series="es256",state="ACTIVE"} 1.0' in text
    assert 'sealwright_issuer_can_sign{issuer="payments"} 1.0' in text
    assert "arn:" not in text
    assert (await service.get("/metrics"))[0] == 404


async def test_reflection_is_there_by_setting_alone(tmp_path: Path, emulator: AwsEmulator) -> None:
    for on in (False, True):
        config = document(tmp_path, emulator.endpoint)
        config["server"]["reflection"] = on
        async with running(config) as service:
            stub: Any = reflection_pb2_grpc.ServerReflectionStub(service.channel)  # type: ignore[arg-type] # its stubs are for sync
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            if on:
                answers = [a async for a in stub.ServerReflectionInfo(iter([request]))]
                assert "sealwright.v1.SigningService" in {s.name for s in answers[0].list_services_response.service}
            else:
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    [a async for a in stub.ServerReflectionInfo(iter([request]))]
                assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_series_of_two_algorithms_each_sign(tmp_path: Path, emulator: AwsEmulator) -> None:
    mixed = issuer("payments", series=[series("ES256"), series("RS256", rsa_bits=3072)])
    async with running(document(tmp_path, emulator.endpoint, mixed)) as service:
        for algorithm in ("ES256", "RS256"):
            signed = await service.sign(algorithm=algorithm)
            await verify(service, signed.token)


def _with_header(token: str, **changes: Any) -> str:
    header, rest = token.split(".", 1)
    members = json.loads(base64url.decode(header)) | changes
    return f"{base64url.encode(json.dumps(members).encode())}.{rest}"


def _in(seconds: int) -> dict[str, int]:
    return {"seconds": int(time.time()) + seconds}


async def test_no_token_leaves_without_its_record_and_the_failure_is_counted(
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(_descriptor: int, *_data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("sealwright.audit.file.os.write", full)
        disk.setattr("sealwright.audit.file.os.pwritev", full)
        refused = await failure(service.sign())
    assert (refused.code, refused.reason) == ("INTERNAL", "INTERNAL_ERROR")
    _, _, body = await service.get("/metrics", at="admin")
    counted = next(line for line in body.decode().splitlines() if line.startswith("sealwright_audit_failures_total "))
    assert float(counted.rpartition(" ")[2]) > 0
    assert (await service.sign()).token
