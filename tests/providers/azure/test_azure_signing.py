from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from providers.azure.azure_support import (
    ES256,
    PUBLIC,
    SECONDS,
    assert_signed,
    make,
    name_of,
    opened,
    signing_input,
    version_of,
)
from sealwright.errors import (
    ProviderUnavailableError,
    ProviderUnsupportedError,
    SignatureRejectedError,
)
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.provider import KeySpec, SignatureEncoding
from sealwright_providers.azure.provider import AzureProvider
from sealwright_providers.http1.connection import Reply
from sealwright_testing.contract.judging import accept
from sealwright_testing.emulators.azure import AzureEmulator

SIZES = {"256": 32, "384": 48, "512": 64}


@pytest.mark.parametrize("name", PUBLIC)
async def test_c46_every_algorithm_signs_a_digest_of_its_own_hash_and_another_library_agrees(
    azure: AzureProvider, vault: AzureEmulator, name: str
) -> None:
    algorithm = ALGORITHMS[name]
    key = await make(azure, name)
    message = signing_input(algorithm)
    assert_signed(key, algorithm, message, await azure.sign(key.uri, algorithm, message, timeout=SECONDS))
    sent = vault.requests[-1]
    assert (sent.operation, sent.algorithm, sent.value_length) == ("Sign", name, SIZES[name[2:5]])


@pytest.mark.parametrize(("name", "size"), [("ES256", 64), ("ES384", 96), ("ES512", 132), ("ES256K", 64)])
async def test_c06_ecdsa_comes_as_r_and_s_and_is_not_converted(azure: AzureProvider, name: str, size: int) -> None:
    key = await make(azure, name)
    raw = await azure.sign(key.uri, ALGORITHMS[name], b"a.b", timeout=SECONDS)
    assert raw.encoding is SignatureEncoding.CONCATENATED
    assert len(accept(key, ALGORITHMS[name], b"a.b", raw)) == len(raw.value) == size


@pytest.mark.parametrize("size", [4095, 4096, 4097, 8192])
async def test_c45_a_digest_has_no_limit_of_4096_bytes(azure: AzureProvider, size: int) -> None:
    key = await make(azure)
    message = signing_input(ES256, size)
    assert len(message) == size
    assert_signed(key, ES256, message, await azure.sign(key.uri, ES256, message, timeout=SECONDS))


async def test_c56_a_signature_is_one_post_on_a_connection_that_is_used_again(
    azure: AzureProvider, vault: AzureEmulator
) -> None:
    key = await make(azure)
    vault.reset_calls()
    connections = set()
    pool = azure._connection._http.connector
    for _ in range(20):
        await azure.sign(key.uri, ES256, b"a.b", timeout=SECONDS)
        assert pool is not None
        connections |= {id(c) for at, conns in pool._conns.items() if "vault" in at.host for c, _ in conns}
    assert dict(vault.calls) == {"Sign": 20}
    assert len(connections) == 1


async def test_fifty_first_signatures_get_one_token(vault: AzureEmulator, tmp_path: Path) -> None:
    async with opened(vault, tmp_path) as first:
        key = await make(first)
    vault.reset_calls()
    async with opened(vault, tmp_path) as fresh:
        await asyncio.gather(*(fresh.sign(key.uri, ES256, b"a.b", timeout=SECONDS) for _ in range(50)))
    assert vault.calls["Token"] == 1
    assert vault.calls["Sign"] <= 51


async def test_the_backends_id_of_the_call_is_passed_on(azure: AzureProvider) -> None:
    key = await make(azure)
    raw = await azure.sign(key.uri, ES256, b"a.b", timeout=SECONDS)
    assert len(raw.request_id or "") == 36


async def test_c53_a_uri_without_a_version_is_described_as_the_newest_version_and_never_signed_with(
    azure: AzureProvider, vault: AzureEmulator
) -> None:
    key = await make(azure)
    versionless = key.uri.rpartition("/")[0]
    assert await azure.describe(versionless, timeout=SECONDS) == key
    vault.reset_calls()
    with pytest.raises(ProviderUnsupportedError, match="version"):
        await azure.sign(versionless, ES256, b"a.b", timeout=SECONDS)
    assert not vault.calls
    await azure._connection.call(
        "POST", azure._connection.target(f"keys/{name_of(key)}/rotate"), b"{}", timeout=SECONDS
    )
    newest = await azure.describe(versionless, timeout=SECONDS)
    assert version_of(newest) != version_of(key)
    assert await azure.describe(key.uri, timeout=SECONDS) == key


async def test_c53_a_key_that_rotates_goes_on_signing_with_its_pinned_version(
    azure: AzureProvider,
) -> None:
    key = await make(azure)
    await azure._connection.call(
        "POST", azure._connection.target(f"keys/{name_of(key)}/rotate"), b"{}", timeout=SECONDS
    )
    assert_signed(key, ES256, b"a.b", await azure.sign(key.uri, ES256, b"a.b", timeout=SECONDS))


@pytest.mark.parametrize("fault", ["other_key", "other_name"])
async def test_c52_c53_the_kid_of_the_answer_is_passed_on_and_the_core_refuses_another(
    azure: AzureProvider, vault: AzureEmulator, fault: str
) -> None:
    key = await make(azure)
    vault.add_fault(fault, operation="Sign")
    raw = await azure.sign(key.uri, ES256, b"a.b", timeout=SECONDS)
    assert raw.key_uri != key.uri
    assert raw.key_uri.startswith(key.uri.rpartition("/")[0])
    with pytest.raises(SignatureRejectedError):
        accept(key, ES256, b"a.b", raw)


async def test_a_name_is_compared_without_regard_to_case(azure: AzureProvider, vault: AzureEmulator) -> None:
    key = await make(azure)
    name = name_of(key)
    uri = key.uri.replace(name, name.upper())
    raw = await azure.sign(uri, ES256, b"a.b", timeout=SECONDS)
    assert raw.key_uri == uri
    assert vault.calls_for(name.upper())["Sign"] == 1


@pytest.mark.parametrize("name", ["HS256", "HS384", "HS512"])
async def test_a_managed_hsm_authenticates_the_message_itself(
    azure_hsm: AzureProvider, hsm: AzureEmulator, name: str
) -> None:
    algorithm = ALGORITHMS[name]
    key = await make(azure_hsm, name)
    assert key.public_key is None
    message = signing_input(algorithm, 3000)
    raw = await azure_hsm.sign(key.uri, algorithm, message, timeout=SECONDS)
    assert len(raw.value) == SIZES[name[2:5]]
    assert hsm.requests[-1].value_length == 3000
    material = hsm.vault.keys.find(name_of(key), None).material
    assert isinstance(material, bytes)
    assert len(material) == SIZES[name[2:5]]


@pytest.mark.parametrize("name", ["EdDSA", "Ed25519", "HS256"])
async def test_a_vault_does_not_sign_with_what_it_has_not(
    azure: AzureProvider, vault: AzureEmulator, name: str
) -> None:
    key = await make(azure)
    vault.reset_calls()
    with pytest.raises(ProviderUnsupportedError):
        await azure.sign(key.uri, ALGORITHMS[name], b"a.b", timeout=SECONDS)
    with pytest.raises(ProviderUnsupportedError):
        await azure.create(KeySpec(algorithm=ALGORITHMS[name]), timeout=SECONDS)
    assert not vault.calls


@pytest.mark.parametrize("body", ['{"kid":"x"}', '{"value":"AAAA"}', '{"kid":"https://x","value":"!"}', "[]", "{"])
async def test_half_an_answer_is_an_outage_and_no_alarm(
    azure: AzureProvider, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    key = await make(azure)

    async def request(*_arguments: object, **_more: object) -> Reply:
        return Reply(200, {}, body.encode())

    monkeypatch.setattr("sealwright_providers.http1.pool.Pool.request", request)
    with pytest.raises(ProviderUnavailableError):
        await azure.sign(key.uri, ES256, b"a.b", timeout=SECONDS)


async def test_an_endless_answer_is_cut_off(azure: AzureProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    key = await make(azure)
    monkeypatch.setattr("sealwright_providers.http1.connection.MAX_BODY_BYTES", 10)
    with pytest.raises(ProviderUnavailableError, match="cannot be reached"):
        await azure.sign(key.uri, ES256, b"a.b", timeout=SECONDS)


async def test_the_uris_that_are_known_are_bounded(azure: AzureProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sealwright_providers.azure.provider._KNOWN_URIS", 2)
    for _ in range(5):
        key = await make(azure)
        await azure.sign(key.uri, ES256, b"a.b", timeout=SECONDS)
    assert len(azure._targets) <= 2
