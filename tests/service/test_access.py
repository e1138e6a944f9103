"""Grants through the whole service: whatever none allows is refused, and every refusal is on record."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sealwright.v1 import jwks_pb2, keys_pb2, signing_pb2
from sealwright_testing.emulators.aws import AwsEmulator
from support.document import document, issuer
from support.service import Failure, Service, audit_records, failure, running, until

DENIED = ("PERMISSION_DENIED", "CALLER_NOT_PERMITTED", "no grant allows this request")
Call = Callable[[Service, str], Awaitable[Any]]

CALLS: dict[str, Call] = {
    "SignJwt": lambda s, i: s.sign(issuer=i),
    "GetIssuer": lambda s, i: s.keys.GetIssuer(keys_pb2.GetIssuerRequest(name=f"issuers/{i}")),
    "ListKeys": lambda s, i: s.list_keys(i),
    "GetKey": lambda s, i: s.keys.GetKey(keys_pb2.GetKeyRequest(name=f"issuers/{i}/keys/{'k' * 43}")),
    "RotateKeys": lambda s, i: s.rotate(i),
    "RotateKeys, dry": lambda s, i: s.rotate(i, validate_only=True),
    "RevokeKeys": lambda s, i: s.revoke("k" * 43, i),
    "RevokeKeys, dry": lambda s, i: s.revoke("k" * 43, i, validate_only=True),
}
"""Every call that is about one issuer."""

ROLES = {
    "signer": {"SignJwt", "GetIssuer"},
    "rotator": {"RotateKeys", "RotateKeys, dry", "GetIssuer", "ListKeys", "GetKey"},
    "revoker": {"RevokeKeys", "RevokeKeys, dry", "GetIssuer", "ListKeys", "GetKey"},
    "registrar": set(),
    "auditor": {"GetIssuer", "ListKeys", "GetKey"},
}


def grant(*roles: str, issuers: tuple[str, ...] = ("*",), **more: Any) -> dict[str, Any]:
    signs = {"subjects": ["**"], "audiences": ["**"], "token_types": ["*"]} if "signer" in roles else {}
    return {"caller": "local", "roles": list(roles), "issuers": list(issuers), **signs, **more}


def told(refused: Failure) -> tuple[str, str, str]:
    return refused.code, refused.reason, refused.message


async def reason(call: Awaitable[Any]) -> str:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return Failure(error).reason
    return ""


async def denied(call: Awaitable[Any]) -> Failure:
    refused = await failure(call)
    assert told(refused) == DENIED
    assert (refused.metadata, refused.violations, refused.retry_after) == ({}, {}, None)
    return refused


async def test_without_a_grant_everything_but_the_jwk_set_and_health_is_refused(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    async with running(document(tmp_path, emulator.endpoint, grants=[])) as service:
        for call in CALLS.values():
            await denied(call(service, "payments"))
        await denied(service.keys.RevokeKeys(keys_pb2.RevokeKeysRequest(provider="aws", reason="a test")))
        assert list((await service.keys.ListIssuers(keys_pb2.ListIssuersRequest())).issuers) == []
        assert json.loads((await service.get_jwks()).jwks_json)["keys"]
        assert (await service.get("/payments/.well-known/jwks.json"))[0] == 200
        assert (await service.get("/healthz"))[0] == 200
        health: Any = health_pb2_grpc.HealthStub(service.channel)

        async def serving() -> bool:
            answer = await health.Check(health_pb2.HealthCheckRequest())
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

        await until(serving)


async def test_an_unknown_issuer_and_a_forbidden_one_look_the_same(tmp_path: Path, emulator: AwsEmulator) -> None:
    issuers = [issuer("payments"), issuer("secret")]
    config = document(tmp_path, emulator.endpoint, *issuers, grants=[grant("signer", "auditor", issuers=("payments",))])
    async with running(config) as service:
        for call in CALLS.values():
            forbidden, unknown = [await denied(call(service, name)) for name in ("secret", "nobody")]
            ids = [one.request_id.encode() for one in (forbidden, unknown)]
            assert forbidden.raw.replace(ids[0], b"") == unknown.raw.replace(ids[1], b"")
        assert (await service.sign()).token


async def test_who_may_see_every_issuer_learns_that_one_does_not_exist(service: Service) -> None:
    for name, call in CALLS.items():
        refused = await failure(call(service, "nobody"))
        assert (refused.code, refused.reason) == ("NOT_FOUND", "ISSUER_NOT_FOUND"), name


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_allows_its_calls_and_no_others(tmp_path: Path, emulator: AwsEmulator, role: str) -> None:
    async with running(document(tmp_path, emulator.endpoint, grants=[grant(role)])) as service:
        for name, call in CALLS.items():
            if name not in ROLES[role]:
                await denied(call(service, "payments"))
                continue
            assert await reason(call(service, "payments")) in {"", "KEY_NOT_FOUND", "ROTATION_TOO_EARLY"}, name


async def test_list_issuers_shows_what_a_caller_has_a_role_for(tmp_path: Path, emulator: AwsEmulator) -> None:
    issuers = [issuer(name) for name in ("one", "two", "three")]
    grants = [
        grant("signer", issuers=("one",)),
        grant("auditor", issuers=("three",)),
        grant("rotator", caller="dns:other"),
    ]
    async with running(document(tmp_path, emulator.endpoint, *issuers, grants=grants)) as service:
        shown = (await service.keys.ListIssuers(keys_pb2.ListIssuersRequest())).issuers
        assert [i.name for i in shown] == ["issuers/one", "issuers/three"]


async def test_revoking_a_provider_needs_the_role_for_every_issuer_that_it_reaches(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    issuers = [issuer("payments"), issuer("other")]
    grants = [grant("revoker", "auditor", issuers=("payments",))]
    async with running(document(tmp_path, emulator.endpoint, *issuers, grants=grants)) as service:
        before = await service.list_keys()
        await denied(service.keys.RevokeKeys(keys_pb2.RevokeKeysRequest(provider="aws", reason="a test")))
        await denied(service.keys.RevokeKeys(keys_pb2.RevokeKeysRequest(provider="nobody", reason="a test")))
        assert await service.list_keys() == before


RESTRICTED: dict[str, Any] = {
    "subjects": ["user/*", "service"],
    "audiences": ["https://api.example.com/**", "https://pay.example.com"],
    "token_types": ["at+jwt"],
}
GOOD: dict[str, Any] = {"subject": "user/1", "audience": ["https://api.example.com/a/b"], "token_type": "at+jwt"}


@pytest.fixture
def restricted(tmp_path: Path, emulator: AwsEmulator) -> dict[str, Any]:
    return document(tmp_path, emulator.endpoint, grants=[grant("signer", **RESTRICTED)])


async def test_what_a_grant_names_is_enforced_in_fields(restricted: dict[str, Any]) -> None:
    async with running(restricted) as service:
        assert (await service.sign(**GOOD)).token
        assert (await service.sign(**GOOD | {"subject": "service", "audience": ["https://pay.example.com"]})).token
        wrongs: list[dict[str, Any]] = [
            {"subject": "user/1/2"},
            {"subject": "user/"},
            {"subject": "User/1"},
            {"subject": "admin"},
            {"subject": ""},
            {"audience": []},
            {"audience": ["https://api.example.com"]},
            {"audience": ["https://api.example.com.evil/a"]},
            {"audience": ["https://pay.example.com/"]},
            {"audience": ["https://api.example.com/a", "https://evil.example"]},
            {"token_type": "JWT"},
            {"token_type": ""},
        ]
        for wrong in wrongs:
            await denied(service.sign(**GOOD | wrong))


@pytest.mark.parametrize(
    "shape", [str, lambda a: [a], lambda a: ["https://pay.example.com", a]], ids=["text", "list", "more"]
)
async def test_what_a_grant_names_is_enforced_in_the_claims_alike(
    restricted: dict[str, Any], shape: Callable[[str], Any]
) -> None:
    async with running(restricted) as service:

        def sign(subject: str, audience: Any) -> Awaitable[Any]:
            return service.sign(json.dumps({"sub": subject, "aud": audience}), token_type="at+jwt")

        assert (await sign("user/1", shape("https://api.example.com/a"))).token
        await denied(sign("admin", shape("https://api.example.com/a")))
        await denied(sign("user/1", shape("https://evil.example")))
        escaped = '{"s\\u0075b":"admin","aud":"https://pay.example.com"}'
        await denied(service.sign(escaped, token_type="at+jwt"))
        await denied(service.sign('{"sub":"user/1"}', token_type="at+jwt"))


async def test_no_two_grants_add_up_to_one_request(tmp_path: Path, emulator: AwsEmulator) -> None:
    grants = [
        grant("signer", subjects=["a"], audiences=["x"], token_types=["JWT"]),
        grant("signer", subjects=["b"], audiences=["y"], token_types=["at+jwt"]),
    ]
    async with running(document(tmp_path, emulator.endpoint, grants=grants)) as service:
        assert (await service.sign(subject="a", audience=["x"], token_type="JWT")).token
        assert (await service.sign(subject="b", audience=["y"], token_type="at+jwt")).token
        await denied(service.sign(subject="a", audience=["y"], token_type="JWT"))
        await denied(service.sign(subject="a", audience=["x", "y"], token_type="JWT"))
        await denied(service.sign(subject="a", audience=["x"], token_type="at+jwt"))


async def test_a_request_that_is_wrong_and_forbidden_is_not_explained_to_whoever_may_not_sign(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    async with running(document(tmp_path, emulator.endpoint, grants=[grant("auditor")])) as service:
        wrongs: list[dict[str, Any]] = [
            {"lifetime": Duration(seconds=10**6)},
            {"algorithm": "RS512"},
            {"token_type": "odd"},
        ]
        for wrong in wrongs:
            await denied(service.sign(**wrong))
        await denied(service.sign('{"iss":"https://evil"}'))
        await denied(service.sign("no JSON"))


async def test_every_denial_is_on_record_with_who_and_what(tmp_path: Path, emulator: AwsEmulator) -> None:
    config = document(tmp_path, emulator.endpoint, grants=[])
    async with running(config) as service:
        ids = {name: (await denied(call(service, "payments"))).request_id for name, call in CALLS.items()}
    by_id = {r["request_id"]: r for r in audit_records(config) if "request_id" in r}
    for name, request_id in ids.items():
        record = by_id[request_id]
        assert (record["outcome"], record["reason"]) == ("denied", "CALLER_NOT_PERMITTED"), name
        assert (record["caller"], record["issuer"]) == ("local", "payments"), name
        assert record["peer"].startswith("ipv4:127.0.0.1:"), name
    events = {name: by_id[request_id]["event"] for name, request_id in ids.items()}
    assert (events["SignJwt"], events["RotateKeys"], events["RevokeKeys"]) == ("sign", "rotate", "revoke")


async def test_a_denied_signature_names_what_was_asked_for(restricted: dict[str, Any]) -> None:
    async with running(restricted) as service:
        await denied(service.sign('{"role":"admin"}', **GOOD | {"subject": "root"}))
    (record,) = audit_records(restricted, "sign")
    assert (record["outcome"], record["sub"], record["aud"]) == ("denied", "root", GOOD["audience"])
    assert "kid" not in record
    assert "admin" not in json.dumps(record)


async def test_a_batch_is_judged_request_by_request(restricted: dict[str, Any]) -> None:
    async with running(restricted) as service:
        good = signing_pb2.SignJwtRequest(issuer="issuers/payments", claims_json="{}", **GOOD)
        bad = signing_pb2.SignJwtRequest(
            issuer="issuers/payments", claims_json='{"sub":"admin"}', audience=GOOD["audience"]
        )
        batch = signing_pb2.BatchSignJwtRequest(requests=[good, bad, good])
        results = (await service.signing.BatchSignJwt(batch)).results
    assert [r.WhichOneof("result") for r in results] == ["response", "error", "response"]
    assert [r["outcome"] for r in audit_records(restricted, "sign")].count("denied") == 1


@pytest.mark.parametrize(
    ("role", "allowed"), [("signer", True), ("auditor", True), ("rotator", False), ("revoker", False)]
)
async def test_verifying_is_for_signers_and_auditors(
    tmp_path: Path, emulator: AwsEmulator, role: str, *, allowed: bool
) -> None:
    async with running(document(tmp_path, emulator.endpoint, grants=[grant(role)])) as service:
        order = signing_pb2.VerifyJwtRequest(token="a.b.c", issuer="issuers/payments", skip_audience_check=True)
        refused = await failure(service.signing.VerifyJwt(order))
        assert (refused.reason == "TOKEN_INVALID") is allowed
        assert (refused.reason == "CALLER_NOT_PERMITTED") is not allowed


async def test_the_jwk_set_over_grpc_needs_no_grant_and_tells_nothing_else(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    async with running(document(tmp_path, emulator.endpoint, grants=[])) as service:
        answer = await service.get_jwks()
        assert json.loads(answer.jwks_json) == json.loads((await service.get("/payments/.well-known/jwks.json"))[2])
        missing = await failure(service.jwks.GetJwks(jwks_pb2.GetJwksRequest(issuer="issuers/nobody")))
        assert missing.reason == "ISSUER_NOT_FOUND"
