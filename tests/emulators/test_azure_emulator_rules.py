"""What the emulator refuses, as Key Vault does, and its faults."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from emulators.azure_support import Client, connected, path_of
from sealwright_testing.emulators.azure import AzureEmulator, AzureError, Fault

SIZES = {"256": 32, "384": 48, "512": 64}


def digest(algorithm: str, more: int = 0) -> str:
    return base64.urlsafe_b64encode(b"d" * (SIZES[algorithm[2:5]] + more)).rstrip(b"=").decode()


@pytest_asyncio.fixture
async def vault() -> AsyncIterator[AzureEmulator]:
    async with AzureEmulator() as running:
        yield running


@pytest_asyncio.fixture
async def client(vault: AzureEmulator) -> AsyncIterator[Client]:
    async with connected(vault) as one:
        yield one


async def create(client: Client, name: str = "jwt", **fields: Any) -> str:
    made = await client.send("POST", f"keys/{name}/create", {"kty": "EC", "crv": "P-256"} | fields)
    return str(made["key"]["kid"])


@pytest.mark.parametrize(
    ("curve", "algorithm", "size"),
    [("P-256", "ES256", 64), ("P-384", "ES384", 96), ("P-521", "ES512", 132), ("P-256K", "ES256K", 64)],
)
async def test_a_curve_has_one_algorithm_and_its_digest_one_length(
    client: Client, curve: str, algorithm: str, size: int
) -> None:
    kid = await create(client, crv=curve)
    answer = await client.sign(kid, algorithm, digest(algorithm))
    assert len(base64.urlsafe_b64decode(answer["value"] + "==")) == size
    assert answer["kid"] == kid
    for other in ("ES256", "ES384", "ES512", "ES256K", "RS256", "PS512", "HS256"):
        if other != algorithm:
            refused = await client.refusal("POST", f"{path_of(kid)}/sign", {"alg": other, "value": digest(other)})
            assert (refused.status, refused.code) == (400, "BadParameter")
    for more in (-1, 1):
        wrong = {"alg": algorithm, "value": digest(algorithm, more)}
        assert (await client.refusal("POST", f"{path_of(kid)}/sign", wrong)).code == "BadParameter"


async def test_attributes_are_enforced_for_signatures(client: Client, vault: AzureEmulator) -> None:
    kid = await create(client)
    path, body = f"{path_of(kid)}/sign", {"alg": "ES256", "value": digest("ES256")}
    for attributes, inner in (
        ({"enabled": False}, "KeyDisabled"),
        ({"enabled": True, "not_before": 4_000_000_000}, "KeyNotYetValid"),
        ({"not_before": None, "expires": 1_000_000_000}, "KeyExpired"),
    ):
        vault.set_attributes("jwt", **attributes)
        refused = await client.refusal("POST", path, body)
        assert (refused.status, refused.code, refused.inner) == (403, "Forbidden", inner)
    vault.set_attributes("jwt", expires=None)
    await client.send("PATCH", path_of(kid), {"key_ops": ["verify"]})
    assert (await client.refusal("POST", path, body)).inner == "KeyOperationForbidden"


@pytest.mark.parametrize(
    "fields",
    [
        {"kty": "AES"},
        {"kty": "oct-HSM"},
        {"crv": "Ed25519"},
        {"crv": "SECP256K1"},
        {"kty": "RSA", "key_size": 1024},
        {"tags": {str(number): "x" for number in range(16)}},
        {"tags": {"name": "x" * 257}},
        {"tags": {"name": 1}},
        {"key_ops": ["hash"]},
        {"attributes": {"enabled": "yes"}},
        {"attributes": {"nbf": 2, "exp": 1}},
    ],
)
async def test_a_key_that_azure_would_not_make_is_not_made(
    client: Client, vault: AzureEmulator, fields: dict[str, Any]
) -> None:
    assert (await client.refusal("POST", "keys/jwt/create", {"kty": "EC"} | fields)).code == "BadParameter"
    assert vault.keys == ()


async def test_names_have_letters_digits_and_hyphens(client: Client) -> None:
    for name in ("a_b", "a.b", "x" * 128):
        assert (await client.refusal("POST", f"keys/{name}/create", {"kty": "EC"})).code == "BadParameter"


async def test_a_name_that_exists_gets_another_version_and_reads_follow_it(client: Client) -> None:
    first, second = await create(client), await create(client)
    assert first != second
    assert (await client.send("GET", "keys/jwt/"))["key"]["kid"] == second
    signed = await client.send("POST", "keys/jwt//sign", {"alg": "ES256", "value": digest("ES256")})
    assert signed["kid"] == second


async def test_purge_protection_and_the_end_of_the_recoverable_days() -> None:
    async with AzureEmulator(purge_protection=True, recoverable_days=7) as vault, connected(vault) as client:
        await create(client)
        gone = await client.send("DELETE", "keys/jwt")
        assert gone["scheduledPurgeDate"] - gone["deletedDate"] == 7 * 86_400
        refused = await client.refusal("DELETE", "deletedkeys/jwt")
        assert (refused.status, refused.inner) == (403, "PurgeProtectionEnabled")
        assert (await client.refusal("POST", "keys/jwt/create", {"kty": "EC"})).inner == "ObjectIsDeletedButRecoverable"
        vault.advance_clock(8 * 86_400)
        await create(client)


async def test_throttling_comes_with_and_without_retry_after(client: Client, vault: AzureEmulator) -> None:
    vault.add_fault("throttle", operation="GetKey", times=1, retry_after=3)
    vault.add_fault("throttle", operation="GetKey", times=1)
    first, second = [await client.refusal("GET", "keys/jwt") for _ in range(2)]
    assert (first.status, first.code, first.headers["Retry-After"]) == (429, "Throttled", "3")
    assert "Retry-After" not in second.headers
    assert (await client.refusal("GET", "keys/jwt")).code == "KeyNotFound"
    assert vault.faults == ()


async def test_a_lost_answer_leaves_the_key_and_a_refused_request_none(client: Client, vault: AzureEmulator) -> None:
    vault.add_fault("http_500", operation="CreateKey", times=1)
    await client.refusal("POST", "keys/jwt/create", {"kty": "EC"})
    assert vault.keys == ()
    vault.add_fault("http_500", operation="CreateKey", times=1, after=True)
    await client.refusal("POST", "keys/jwt/create", {"kty": "EC"})
    assert len(vault.keys) == 1
    vault.add_fault("not_yet_visible", seconds=60)
    await create(client, "hidden")
    assert (await client.refusal("GET", "keys/hidden")).code == "KeyNotFound"
    assert (await client.send("GET", "keys/hidden/versions"))["value"] == []


@pytest.mark.parametrize("kind", ["drop_connection", "hang"])
async def test_a_connection_can_end_without_an_answer(client: Client, vault: AzureEmulator, kind: str) -> None:
    kid = await create(client)
    vault.add_fault(kind, operation="Sign")
    # A POST, since aiohttp itself repeats a GET on a connection that it had used before.
    request = asyncio.ensure_future(client.sign(kid, "ES256", digest("ES256")))
    await asyncio.sleep(0.1)
    assert request.done() is (kind == "drop_connection")
    vault.clear_faults()
    assert isinstance((await asyncio.gather(request, return_exceptions=True))[0], Exception)


async def test_faults_calls_and_keys_are_under_control_over_https(client: Client, vault: AzureEmulator) -> None:
    async def control(method: str, path: str, body: object = None, status: int = 200) -> Any:
        async with client.http.request(method, f"{vault.vault_url}/_emulator/{path}", json=body) as answer:
            assert answer.status == status, await answer.text()
            return await answer.json()

    await create(client)
    assert (await control("GET", "calls?name=jwt")) == {"CreateKey": 2}
    assert (await control("POST", "faults", [{"kind": "throttle", "operation": "GetKey", "times": 2}]))[0]["left"] == 2
    await client.refusal("GET", "keys/jwt")
    assert (await control("GET", "faults"))[0]["left"] == 1
    assert (await control("DELETE", "faults")) == []
    await control("POST", "keys/jwt", {"enabled": False})
    assert [key["enabled"] for key in await control("GET", "keys")] == [False]
    assert (await control("GET", "requests"))[-1]["outcome"] == "Throttled"
    await control("POST", "tokens/revoke")
    await control("POST", "clock", {"advance_seconds": 5})
    await control("POST", "calls/reset")
    assert (await control("GET", "calls")) == {}
    for path, body in (
        ("faults", {"kind": "rain"}),
        ("faults", {"kind": "delay"}),
        ("faults", {"kind": "throttle", "times": 0}),
        ("faults", {"bogus": 1}),
        ("faults", 1),
        ("keys/jwt", {"state": "x"}),
        ("keys/other", {"enabled": True}),
        ("clock", {}),
    ):
        assert "message" in await control("POST", path, body, status=400)


async def test_managed_identity_endpoints_want_their_headers(client: Client, vault: AzureEmulator) -> None:
    async def token(path: str, **headers: str) -> int:
        url = f"{vault.vault_url}/{path}?resource=https://vault.azure.net"
        async with client.http.get(url, headers=headers) as answer:
            return answer.status

    assert await token("metadata/identity/oauth2/token") == 400
    assert await token("metadata/identity/oauth2/token", Metadata="true") == 200
    assert await token("msi/token") == 401
    assert await token("msi/token", **{"X-IDENTITY-HEADER": "emulator-identity-header"}) == 200


def test_a_fault_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="times"):
        Fault.from_json({"kind": "throttle", "times": 0})
    with pytest.raises(ValueError, match="seconds"):
        Fault.from_json({"kind": "delay", "seconds": -1})
    with pytest.raises(KeyError):
        AzureEmulator().set_attributes("none", enabled=False)
    with pytest.raises(AzureError):
        AzureEmulator().delete("none")


async def test_the_connection_is_tls_of_the_emulators_own_ca(vault: AzureEmulator) -> None:
    async with aiohttp.ClientSession() as stranger:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await stranger.get(vault.endpoint)
