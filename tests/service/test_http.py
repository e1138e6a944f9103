"""What verifiers fetch over HTTP."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from sealwright_testing.emulators.aws import AwsEmulator
from support.document import document, issuer
from support.service import Service, failure, running, until

JWKS = "/payments/.well-known/jwks.json"


async def test_http_and_grpc_serve_the_same_bytes(service: Service) -> None:
    status, headers, body = await service.get(JWKS)
    same = await service.get_jwks()
    assert (status, body.decode(), headers["ETag"]) == (200, same.jwks_json, same.etag)
    assert headers["Content-Type"] == "application/json"
    assert f"max-age={same.max_age.seconds}" in headers["Cache-Control"]


async def test_c16_c17_c22_c24_c139_the_served_set_has_public_members_only(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    async with running(document(tmp_path, emulator.endpoint, issuer("payments", "RS256", "ES384"))) as service:
        _, _, body = await service.get(JWKS)
        allowed = {"EC": {"kty", "crv", "x", "y", "use", "alg", "kid"}, "RSA": {"kty", "n", "e", "use", "alg", "kid"}}
        keys = json.loads(body)["keys"]
        assert len(keys) == 4
        for key in keys:
            assert set(key) == allowed[key["kty"]]
            assert all(re.fullmatch(r"[A-Za-z0-9_-]+", key[m]) for m in ("n", "e", "x", "y", "kid") if m in key)
            assert key["use"] == "sig"
        assert b"111122223333" not in body


async def test_c89_c90_cache_control_is_constant_and_short(service: Service) -> None:
    seen = set()
    for _ in range(3):
        seen.add((await service.get(JWKS))[1]["Cache-Control"])
        await asyncio.sleep(0.05)
    assert seen == {"public, max-age=300, stale-if-error=600"}
    await service.rotate()
    assert (await service.get(JWKS))[1]["Cache-Control"] in seen


async def test_c91_conditional_requests(service: Service) -> None:
    _, headers, body = await service.get(JWKS)
    etag = headers["ETag"]
    assert re.fullmatch(r'"[A-Za-z0-9_-]+"', etag)
    for asked in (etag, f"W/{etag}", "*", f'"other", {etag}', f'W/"other",W/{etag}', f'"a,b", {etag}'):
        status, answer, empty = await service.get(JWKS, If_None_Match=asked)
        assert (status, empty) == (304, b""), asked
        assert answer["ETag"] == etag
        assert answer["Cache-Control"] == headers["Cache-Control"]
        assert answer["Access-Control-Allow-Origin"] == "*"
    for asked in ('"other"', etag.strip('"'), ""):
        status, _, full = await service.get(JWKS, If_None_Match=asked)
        assert (status, full) == (200, body), asked
    status, answer, empty = await service.get(JWKS, method="HEAD")
    assert (status, empty, answer["Content-Length"], answer["ETag"]) == (200, b"", str(len(body)), etag)


async def test_c91_the_etag_changes_with_the_keys_and_with_nothing_else(service: Service) -> None:
    before = (await service.get(JWKS))[1]["ETag"]
    assert (await service.get(JWKS + "?cache=buster"))[1]["ETag"] == before
    kid = (await service.sign()).kid
    await service.revoke(kid)
    assert (await service.get(JWKS))[1]["ETag"] != before


async def test_c92_browsers_may_read_every_answer(service: Service) -> None:
    for path in (JWKS, "/nobody/.well-known/jwks.json"):
        _, headers, _ = await service.get(path, Origin="https://example.org")
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in headers
    status, headers, _ = await service.get(
        JWKS,
        method="OPTIONS",
        Origin="https://example.org",
        Access_Control_Request_Method="GET",
    )
    assert status == 204
    assert "GET" in headers["Access-Control-Allow-Methods"]
    assert headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(
    "path",
    [
        "/nobody/.well-known/jwks.json",
        "/payments/.well-known/jwks.json/",
        "//payments/.well-known/jwks.json",
        "/payments/../payments/.well-known/jwks.json",
        "/payments/.well-known/jwks%2Ejson",
        "/.well-known/jwks.json",
        "/",
        "/metrics",
    ],
)
async def test_what_is_not_there_is_not_found_not_cached_and_never_a_redirect(service: Service, path: str) -> None:
    status, headers, _ = await service.get(path)
    assert status == 404
    assert headers["Cache-Control"] == "no-store"
    assert "Location" not in headers


async def test_only_reading_is_allowed(service: Service) -> None:
    for method in ("POST", "PUT", "DELETE"):
        status, headers, _ = await service.get(JWKS, method=method)
        assert (status, headers["Cache-Control"]) == (405, "no-store")
        assert "GET" in headers["Allow"]


async def test_health_is_there_on_both_listeners(service: Service) -> None:
    for at in ("http", "admin"):
        for path in ("/healthz", "/readyz", "/readyz/jwks"):
            status, headers, _ = await service.get(path, at=at)
            assert (status, headers["Cache-Control"]) == (200, "no-store"), (at, path)


async def test_c97_before_the_first_key_the_answer_is_503_and_not_an_empty_set(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    # Unlike a failure of the KMS, a refusal leaves no doubt whether a key was made, so the next try does not wait for a search.
    emulator.add_fault("throttle", operation="CreateKey")
    async with running(document(tmp_path, emulator.endpoint), wait=False) as service:

        async def asked() -> bool:
            return emulator.calls.get("CreateKey", 0) > 0

        async def ready() -> bool:
            return (await service.get("/readyz"))[0] == 200

        await until(asked)
        status, headers, _ = await service.get(JWKS)
        assert (status, headers["Cache-Control"], headers["Retry-After"]) == (503, "no-store", "1")
        assert (await service.get("/healthz"))[0] == 200
        assert (await service.get("/readyz"))[0] == 503
        assert (await service.get("/readyz/jwks"))[0] == 503
        assert (await failure(service.get_jwks())).reason == "NO_ACTIVE_KEY"
        assert (await failure(service.sign())).reason in {"NO_ACTIVE_KEY", "STATE_TOO_OLD"}
        emulator.clear_faults()
        await until(ready)
        assert (await service.get(JWKS))[0] == 200


async def test_c105_the_set_is_served_from_memory(service: Service, emulator: AwsEmulator) -> None:
    emulator.reset_calls()
    answers = await asyncio.gather(*(service.get(JWKS) for _ in range(300)))
    assert {status for status, _, _ in answers} == {200}
    assert sum(emulator.calls.values()) == 0


async def test_c94_a_trailing_slash_stays_in_iss_and_goes_from_the_path(tmp_path: Path, emulator: AwsEmulator) -> None:
    slash = issuer("payments", url="https://id.example.com/payments/")
    async with running(document(tmp_path, emulator.endpoint, slash)) as service:
        signed = await service.sign()
        assert '"iss":"https://id.example.com/payments/"' in _payload(signed.token)
        assert (await service.get(JWKS))[0] == 200


async def test_an_issuer_without_a_path_is_served_at_the_root(tmp_path: Path, emulator: AwsEmulator) -> None:
    async with running(document(tmp_path, emulator.endpoint, issuer("root", url="https://id.example.com"))) as service:
        assert (await service.get("/.well-known/jwks.json"))[0] == 200


def _payload(token: str) -> str:
    import base64  # noqa: PLC0415

    part = token.split(".")[1]
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode()
