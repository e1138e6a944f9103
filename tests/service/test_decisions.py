"""F09: every call but GetJwks leaves exactly one record of its outcome, under its own name, whatever is wrong with it."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sealwright.audit.records import EVENTS, NAMES, Outcome
from sealwright.audit.writer import AuditWriter
from sealwright.http2.frames import END_STREAM, PREFACE, Kind
from sealwright.server.rpc import batches
from sealwright.server.rpc.call import MAX_MESSAGE
from sealwright.v1 import jwks_pb2, keys_pb2, signing_pb2
from sealwright_testing.emulators.aws import AwsEmulator
from support.document import document
from support.http2_caller import frame, head, prefixed
from support.http2_peer import block
from support.service import Service, audit_records, failure, running, until

GOOD = signing_pb2.SignJwtRequest(issuer="issuers/payments", claims_json="{}")
PATHS = {
    method: f"/sealwright.v1.{service}/{method}"
    for service, methods in {
        "SigningService": ("SignJwt", "BatchSignJwt", "VerifyJwt"),
        "KeyService": ("ListIssuers", "GetIssuer", "ListKeys", "GetKey", "RotateKeys", "RevokeKeys"),
    }.items()
    for method in methods
}


def decisions(config: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return method, outcome and reason of every call on record."""
    return [(r["method"], r["outcome"], r["reason"]) for r in audit_records(config) if "method" in r]


def test_f09_every_rpc_but_the_public_one_is_a_decision() -> None:
    services = [f.DESCRIPTOR.services_by_name.values() for f in (signing_pb2, keys_pb2, jwks_pb2)]
    methods = {m.name for found in services for service in found for m in service.methods}
    assert methods - {"GetJwks"} == set(EVENTS) == set(PATHS)


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("SignJwt", lambda s: s.sign(issuer="a/b")),
        ("SignJwt", lambda s: s.sign(lifetime=Duration(seconds=1, nanos=1))),
        ("SignJwt", lambda s: s.sign(lifetime=Duration(seconds=60, nanos=10**9))),
        ("SignJwt", lambda s: s.sign(lifetime=Duration(seconds=60, nanos=-(10**9)))),
        ("SignJwt", lambda s: s.sign(not_before=Timestamp(seconds=10**15))),
        ("SignJwt", lambda s: s.sign("no JSON")),
        ("BatchSignJwt", lambda s: s.signing.BatchSignJwt(signing_pb2.BatchSignJwtRequest(requests=[GOOD] * 257))),
        ("BatchSignJwt", lambda s: s.signing.BatchSignJwt(signing_pb2.BatchSignJwtRequest())),
        ("VerifyJwt", lambda s: s.signing.VerifyJwt(signing_pb2.VerifyJwtRequest(token="a", issuer="payments"))),
        ("GetIssuer", lambda s: s.keys.GetIssuer(keys_pb2.GetIssuerRequest(name="payments"))),
        ("ListKeys", lambda s: s.keys.ListKeys(keys_pb2.ListKeysRequest(parent=""))),
        (
            "ListKeys",
            lambda s: s.keys.ListKeys(keys_pb2.ListKeysRequest(parent="issuers/payments", page_token="not ours")),
        ),
        ("ListIssuers", lambda s: s.keys.ListIssuers(keys_pb2.ListIssuersRequest(page_size=-1))),
        ("GetKey", lambda s: s.keys.GetKey(keys_pb2.GetKeyRequest(name="issuers/payments/keys/"))),
        ("RotateKeys", lambda s: s.rotate(issuer="a/b")),
        ("RotateKeys", lambda s: s.rotate(series="nothing", validate_only=True)),
        ("RevokeKeys", lambda s: s.keys.RevokeKeys(keys_pb2.RevokeKeysRequest(name="x", reason="a test"))),
        ("RevokeKeys", lambda s: s.keys.RevokeKeys(keys_pb2.RevokeKeysRequest(reason="a test"))),
    ],
)
async def test_f09_a_request_that_is_invalid_is_on_record_once(
    service: Service, method: str, call: Callable[[Service], Awaitable[Any]]
) -> None:
    refused = await failure(call(service))
    assert refused.code == "INVALID_ARGUMENT"
    assert decisions(service.document) == [(method, "failed", "REQUEST_INVALID")]
    (record,) = [r for r in audit_records(service.document) if "method" in r]
    assert (record["event"], record["request_id"], record["caller"]) == (EVENTS[method], refused.request_id, "local")


@pytest.mark.parametrize("method", PATHS)
async def test_f09_bytes_that_are_no_message_are_on_record_once(service: Service, method: str) -> None:
    call: Any = service.channel.unary_unary(PATHS[method])
    refused = await failure(call(b"\x0a\xff\xff\xff\xff\x0f"))
    assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "REQUEST_INVALID")
    assert decisions(service.document) == [(method, "failed", "REQUEST_INVALID")]


@pytest.mark.parametrize("method", PATHS)
async def test_f09_a_message_that_is_too_large_for_any_request_is_on_record_once(service: Service, method: str) -> None:
    call: Any = service.channel.unary_unary(PATHS[method])
    refused = await failure(call(bytes(MAX_MESSAGE + 1)))
    assert (refused.code, refused.reason) == ("RESOURCE_EXHAUSTED", "REQUEST_TOO_LARGE")
    assert decisions(service.document) == [(method, "failed", "REQUEST_TOO_LARGE")]
    (record,) = [r for r in audit_records(service.document) if "method" in r]
    assert (record["request_id"], record["caller"]) == (refused.request_id, "local")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (prefixed(b"x", 2), "REQUEST_INVALID"),
        (prefixed(b"x", 1), "REQUEST_INVALID"),
        (prefixed(gzip.compress(b"hello")[:-9], 1), "REQUEST_INVALID"),
        (prefixed(gzip.compress(bytes(MAX_MESSAGE + 1)), 1), "REQUEST_TOO_LARGE"),
    ],
    ids=["flag", "no gzip", "cut", "bomb"],
)
async def test_f09_a_message_that_cannot_be_unpacked_is_on_record_once(
    service: Service, message: bytes, reason: str
) -> None:
    host, _, port = service.app.addresses["grpc"].rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", PATHS["SignJwt"].encode())]
    fields += [(b"te", b"trailers"), (b"content-type", b"application/grpc"), (b"grpc-encoding", b"gzip")]
    writer.write(PREFACE + frame(Kind.SETTINGS) + head(1, 0, block(fields)) + frame(Kind.DATA, END_STREAM, 1, message))

    async def recorded() -> bool:
        return decisions(service.document) == [("SignJwt", "failed", reason)]

    await until(recorded)
    writer.close()


async def test_f09_refusals_of_messages_that_are_too_large_are_limited(tmp_path: Path, emulator: AwsEmulator) -> None:
    config = document(tmp_path, emulator.endpoint)
    config["audit"]["refusals_per_minute"] = 3
    async with running(config) as service:
        call: Any = service.channel.unary_unary(PATHS["RevokeKeys"])
        for _ in range(6):
            await failure(call(bytes(MAX_MESSAGE + 1)))
    assert len(decisions(config)) == 3


@pytest.mark.parametrize(("method", "part"), [("VerifyJwt", "fresh"), ("SignJwt", "at"), ("ListKeys", "at")])
async def test_f09_an_unexpected_exception_is_on_record_once(
    service: Service, monkeypatch: pytest.MonkeyPatch, method: str, part: str
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(service.app.keyring, part, broken)
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "SignJwt": service.sign,
        "ListKeys": service.list_keys,
        "VerifyJwt": lambda: service.signing.VerifyJwt(
            signing_pb2.VerifyJwtRequest(token="a.b.c", issuer="issuers/payments", skip_audience_check=True)
        ),
    }
    assert (await failure(calls[method]())).code == "INTERNAL"
    assert decisions(service.document) == [(method, "failed", "INTERNAL_ERROR")]


async def test_f09_calls_that_succeed_are_on_record_once_under_their_own_names(service: Service) -> None:
    key = (await service.list_keys())[0]
    await service.keys.GetKey(keys_pb2.GetKeyRequest(name=key.name))
    await service.keys.GetIssuer(keys_pb2.GetIssuerRequest(name="issuers/payments"))
    await service.keys.ListIssuers(keys_pb2.ListIssuersRequest())
    token = (await service.sign()).token
    verify = signing_pb2.VerifyJwtRequest(token=token, issuer="issuers/payments", skip_audience_check=True)
    await service.signing.VerifyJwt(verify)
    await service.get_jwks()
    await service.rotate()
    await service.revoke(key.kid)
    assert decisions(service.document) == [
        ("ListKeys", "allowed", ""),
        ("GetKey", "allowed", ""),
        ("GetIssuer", "allowed", ""),
        ("ListIssuers", "allowed", ""),
        ("SignJwt", "allowed", ""),
        ("VerifyJwt", "allowed", ""),
        ("RotateKeys", "begun", ""),
        ("RotateKeys", "allowed", ""),
        ("RevokeKeys", "begun", ""),
        ("RevokeKeys", "allowed", ""),
    ]
    records = {r.get("method"): r for r in audit_records(service.document)}
    assert records["GetKey"]["event"] == "get_key"
    assert records["GetKey"]["kid"] == key.kid


def _asked(emulator: AwsEmulator) -> Callable[[], Awaitable[bool]]:
    async def asked() -> bool:
        return "Sign" in emulator.calls

    return asked


async def test_f09_a_batch_has_one_record_for_each_of_its_tokens(service: Service) -> None:
    bad = signing_pb2.SignJwtRequest(issuer="nobody", claims_json="{}")
    await service.signing.BatchSignJwt(signing_pb2.BatchSignJwtRequest(requests=[GOOD, bad, GOOD]))
    records = [r for r in audit_records(service.document) if "method" in r]
    assert {(r["event"], r["method"]) for r in records} == {("sign", "BatchSignJwt")}
    assert sorted(r["outcome"] for r in records) == ["allowed", "allowed", "failed"]
    assert len({r["request_id"] for r in records}) == 3
    assert len({r["batch_request_id"] for r in records}) == 1


async def test_f09_a_batch_whose_caller_leaves_before_any_of_it_was_begun_is_on_record_once(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "PLACES", 0)
    call = service.signing.BatchSignJwt(signing_pb2.BatchSignJwtRequest(requests=[GOOD] * 3))
    await asyncio.sleep(0)
    await service.list_keys()  # It comes after the batch.
    call.cancel()

    async def recorded() -> bool:
        return decisions(service.document)[1:] == [("BatchSignJwt", "cancelled", "CANCELLED")]

    await until(recorded)
    assert [r["event"] for r in audit_records(service.document) if "method" in r] == ["list_keys", "batch_sign"]


async def test_f09_a_token_whose_key_is_revoked_while_it_is_signed_has_one_record(
    service: Service, emulator: AwsEmulator
) -> None:
    active = next(k for k in await service.list_keys() if k.state == keys_pb2.Key.STATE_ACTIVE)
    emulator.add_fault("delay", operation="Sign", seconds=1.0)
    emulator.add_fault("http_500", operation="DisableKey")  # else the KMS refuses to sign
    signing = asyncio.create_task(failure(service.sign()))
    await until(_asked(emulator))
    await service.revoke(active.kid)
    refused = await signing
    assert refused.reason == "NO_ACTIVE_KEY"
    (record,) = audit_records(service.document, "sign")
    assert (record["outcome"], record["reason"], record["kid"]) == ("withheld", "NO_ACTIVE_KEY", active.kid)
    assert record["request_id"] == refused.request_id


async def test_f09_a_key_that_is_revoked_while_the_record_is_written_has_a_second_record_that_says_so(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    active = next(k for k in await service.list_keys() if k.state == keys_pb2.Key.STATE_ACTIVE)
    write = AuditWriter.write
    revoked: list[Any] = []

    async def slow(self: AuditWriter, event: str, record: Any, **more: Any) -> None:
        await write(self, event, record, **more)
        if event == "sign" and not revoked:
            revoked.append(await service.revoke(active.kid))

    monkeypatch.setattr(AuditWriter, "write", slow)
    refused = await failure(service.sign())
    assert refused.reason == "NO_ACTIVE_KEY"
    records = audit_records(service.document, "sign")
    assert [(r["outcome"], r["request_id"]) for r in records] == [
        ("allowed", refused.request_id),
        ("withheld", refused.request_id),
    ]


async def test_f09_a_caller_who_leaves_is_on_record_once(service: Service, emulator: AwsEmulator) -> None:
    emulator.add_fault("delay", operation="Sign", seconds=2.0)
    call = service.signing.SignJwt(GOOD)
    await until(_asked(emulator))
    call.cancel()

    async def recorded() -> bool:
        return decisions(service.document) == [("SignJwt", "cancelled", "CANCELLED")]

    await until(recorded)


async def test_f09_a_caller_who_leaves_while_the_record_is_written_is_on_record_once(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = AuditWriter.write
    written, left = asyncio.Event(), asyncio.Event()

    async def slow(self: AuditWriter, event: str, record: Any, **more: Any) -> None:
        await write(self, event, record, **more)
        written.set()
        try:
            await asyncio.sleep(60)
        finally:
            left.set()

    monkeypatch.setattr(AuditWriter, "write", slow)
    call = service.signing.SignJwt(GOOD)
    await asyncio.wait_for(written.wait(), 10)
    call.cancel()
    await asyncio.wait_for(left.wait(), 10)
    await asyncio.sleep(0)
    monkeypatch.undo()
    await service.sign()
    assert decisions(service.document) == [("SignJwt", "allowed", "")] * 2


async def test_f07_a_record_of_many_audiences_is_short_and_says_which_they_were(service: Service) -> None:
    audience = [f"https://{n}.example.com/{'x' * 480}" for n in range(9)]
    assert (await service.sign(audience=audience)).token
    (record,) = audit_records(service.document, "sign")
    digest = hashlib.sha256(json.dumps(audience, separators=(",", ":")).encode()).hexdigest()
    assert record["aud"] == [*audience[:2], f"… (9 texts, SHA-256 of their JSON {digest})"]
    assert (await service.sign(audience=audience[:4])).token
    assert audit_records(service.document, "sign")[-1]["aud"] == audience[:4]


async def test_f07_a_claim_set_has_no_more_audiences_than_a_request(service: Service) -> None:
    refused = await failure(service.sign(json.dumps({"aud": [str(n) for n in range(101)]})))
    assert (refused.reason, set(refused.violations)) == ("REQUEST_INVALID", {"claims_json.aud"})
    assert (await service.sign(json.dumps({"aud": [str(n) for n in range(100)]}))).token


async def test_f09_a_call_that_comes_while_the_service_drains_is_on_record_once(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    config = document(tmp_path, emulator.endpoint)
    async with running(config) as service:
        stopping = asyncio.create_task(service.app.stop())
        refused: list[Any] = []

        async def turned_away() -> bool:
            try:
                await service.sign()
            except grpc.aio.AioRpcError as error:
                refused.append(error.code())
            return bool(refused)

        await until(turned_away)
        await stopping
    assert refused == [grpc.StatusCode.UNAVAILABLE]
    assert [d for d in decisions(config) if d[1] != "allowed"] == [("SignJwt", "failed", "SHUTTING_DOWN")]


async def test_every_field_and_outcome_of_every_record_is_in_the_schema(service: Service) -> None:
    key = (await service.list_keys())[0]
    token = (await service.sign(subject="a", audience=["b"])).token
    verify = signing_pb2.VerifyJwtRequest(token=token, issuer="issuers/payments", audience="c")
    await failure(service.signing.VerifyJwt(verify))
    await service.rotate(expected_kid=key.kid)
    await service.revoke(key.kid)
    records = audit_records(service.document)
    assert {name for record in records for name in record} <= NAMES
    assert {r["outcome"] for r in records if "outcome" in r} <= set(Outcome)
