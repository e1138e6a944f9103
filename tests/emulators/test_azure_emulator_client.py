"""The official client against the emulator, as in production."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from azure.core.exceptions import ClientAuthenticationError, ResourceExistsError, ResourceNotFoundError
from azure.keyvault.keys import KeyCurveName
from azure.keyvault.keys.crypto import SignatureAlgorithm
from click.testing import CliRunner

from emulators.azure_support import Client, connected, failure
from sealwright_testing.__main__ import main
from sealwright_testing.emulators.azure import AzureEmulator, ThreadedAzureEmulator

DIGEST = hashlib.sha256(b"a.b").digest()


@pytest_asyncio.fixture
async def vault() -> AsyncIterator[AzureEmulator]:
    async with AzureEmulator() as running:
        yield running


@pytest_asyncio.fixture
async def client(vault: AzureEmulator) -> AsyncIterator[Client]:
    async with connected(vault) as one:
        yield one


async def test_the_official_client_creates_gets_lists_rotates_signs_deletes_and_recovers(
    client: Client, vault: AzureEmulator
) -> None:
    keys = client.keys
    made = await keys.create_ec_key("jwt", curve=KeyCurveName.p_256, tags={"sealwright:intent": "i"})
    assert made.id == f"{vault.vault_url}/keys/jwt/{made.properties.version}"
    assert made.properties.tags == {"sealwright:intent": "i"}
    assert (await keys.get_key("jwt")).id == made.id
    for number in range(30):
        await keys.create_ec_key(f"other-{number}")
    assert len([key async for key in keys.list_properties_of_keys()]) == 31
    assert vault.calls["GetKeys"] == 2

    crypto = keys.get_cryptography_client("jwt", key_version=made.properties.version)
    signed = await crypto.sign(SignatureAlgorithm.es256, DIGEST)
    assert (await crypto.verify(SignatureAlgorithm.es256, DIGEST, signed.signature)).is_valid
    rotated = await keys.rotate_key("jwt")
    assert rotated.properties.version != made.properties.version
    assert len([v async for v in keys.list_properties_of_key_versions("jwt")]) == 2

    await keys.delete_key("jwt")
    with pytest.raises(ResourceNotFoundError):
        await keys.get_key("jwt")
    with pytest.raises(ResourceExistsError):
        await keys.create_ec_key("jwt")
    assert (await keys.get_deleted_key("jwt")).name == "jwt"
    assert [key.name async for key in keys.list_deleted_keys()] == ["jwt"]
    await keys.recover_deleted_key("jwt")
    assert (await keys.get_key("jwt")).id == rotated.id
    await keys.delete_key("jwt")
    await keys.purge_deleted_key("jwt")
    await keys.create_ec_key("jwt")


async def test_the_first_request_alone_is_challenged(client: Client, vault: AzureEmulator) -> None:
    for _ in range(3):
        await client.keys.create_ec_key("jwt")
    assert [r.outcome for r in vault.requests] == ["challenge", "ok", "ok", "ok", "ok"]
    assert vault.calls["Token"] == 1


async def test_under_localhost_the_client_notices_that_the_challenge_is_for_another_domain(
    vault: AzureEmulator,
) -> None:
    async with connected(vault, vault_url=vault.endpoint) as client:
        with pytest.raises(ValueError, match="does not match the requested domain"):
            await client.keys.get_key("jwt")
    async with connected(vault, vault_url=vault.endpoint, verify_challenge_resource=False) as client:
        await client.keys.create_ec_key("jwt")


async def test_a_wrong_secret_gets_no_token(vault: AzureEmulator) -> None:
    async with connected(vault, client_secret="wrong") as client:
        with pytest.raises(ClientAuthenticationError):
            await client.keys.get_key("jwt")


async def test_a_token_for_another_resource_or_an_old_one_is_challenged(client: Client, vault: AzureEmulator) -> None:
    await client.keys.create_ec_key("jwt")
    wrong = vault.identity.issue("https://management.azure.com")["access_token"]
    vault.identity.lifetime = -1
    old = vault.identity.issue(vault.resource(vault.vault_url.removeprefix("https://")))["access_token"]
    for token in (wrong, old, "none"):
        url = f"{vault.vault_url}/keys/jwt?api-version=7.4"
        async with client.http.get(url, headers={"Authorization": f"Bearer {token}"}) as answer:
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith('Bearer authorization="https://')


async def test_a_managed_hsm_has_keys_in_hsms_only_and_its_own_resource() -> None:
    async with AzureEmulator(managed_hsm=True) as hsm, connected(hsm) as client:
        assert ".managedhsm.localhost" in hsm.vault_url
        made = await client.keys.create_ec_key("jwt", hardware_protected=True)
        assert made.key_type == "EC-HSM"
        assert (await failure(client.keys.create_ec_key("soft"))).status_code == 400
        mac = await client.keys.create_oct_key("mac", size=256, hardware_protected=True, key_operations=["sign"])
        answer = await client.sign(mac.id, "HS256", "YS5i")
        assert len(answer["value"]) == 43


def test_the_command_prints_one_line_and_ends_with_0() -> None:
    command = [sys.executable, "-m", "sealwright_testing", "azure", "--managed-hsm"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own command
        try:
            assert process.stdout is not None
            line = json.loads(process.stdout.readline())
            assert list(line) == ["endpoint", "ca", "vault_url", "tenant_id", "client_id"]
            assert line["endpoint"].startswith("https://localhost:")
            assert ".managedhsm.localhost:" in line["vault_url"]
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            assert process.stdout.read() == ""
        finally:
            process.kill()


def test_a_port_in_use_is_reported_without_a_traceback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(main, ["azure", "--port", str(port)])
        with pytest.raises(OSError, match="address already in use"):
            ThreadedAzureEmulator(port=port).__enter__()
    assert result.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in result.output


async def test_an_emulator_may_be_stopped_twice() -> None:
    emulator = AzureEmulator()
    await emulator.start()
    await emulator.stop()
    await emulator.stop()
