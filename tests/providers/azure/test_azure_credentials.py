from __future__ import annotations

import asyncio
import logging
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest
from azure.core.credentials import AccessTokenInfo
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from providers.azure.azure_support import ES256, SECONDS, make, opened
from sealwright.errors import ProviderAccessDeniedError, ProviderError, ProviderUnavailableError
from sealwright_providers.azure.credentials import TokenSource
from sealwright_providers.azure.errors import CredentialsRefusedError
from sealwright_providers.azure.settings import AzureSettings
from sealwright_testing.emulators.azure import AzureEmulator
from support.waiting import until

NO_SECRET = {"client_secret_file": None}


async def signs(vault: AzureEmulator, directory: Path, **more: Any) -> None:
    """See that a provider with this credential signs."""
    async with opened(vault, directory, **NO_SECRET, **more) as provider:
        key = await make(provider)
        assert (await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)).key_uri == key.uri


def certificate(path: Path) -> None:
    """Write a self-signed certificate with its key, as Entra ID applications have them."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "app")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + signed.public_bytes(Encoding.PEM))


async def test_an_application_with_a_certificate_signs(vault: AzureEmulator, tmp_path: Path) -> None:
    certificate(tmp_path / "app.pem")
    await signs(vault, tmp_path, credential="client_certificate", client_certificate_file=str(tmp_path / "app.pem"))


async def test_workload_identity_signs_with_what_the_cluster_puts_into_the_environment(
    vault: AzureEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("the cluster's token")
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AZURE_TENANT_ID", vault.identity.tenant)
    monkeypatch.setenv("AZURE_CLIENT_ID", vault.identity.client_id)
    # An endpoint in the environment redirects nothing.
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", "https://evil.example")
    await signs(vault, tmp_path, credential="workload_identity", tenant_id=None, client_id=None)
    await signs(vault, tmp_path, credential="default", tenant_id=None, client_id=None)
    assert vault.calls["Token"] == 2


@pytest.mark.parametrize("platform", ["virtual machine", "App Service"])
async def test_a_managed_identity_signs(
    vault: AzureEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    if platform == "App Service":
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{vault.endpoint}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", "emulator-identity-header")
    else:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", vault.endpoint)
    await signs(vault, tmp_path, credential="managed_identity", tenant_id=None)
    await signs(vault, tmp_path, credential="default", tenant_id=None)
    assert vault.calls["ManagedIdentity"] >= 2
    assert "Token" not in vault.calls


async def test_the_azure_cli_is_asked_for_a_token(
    vault: AzureEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = vault.identity.issue(vault.resource(vault.vault_url.removeprefix("https://")))["access_token"]
    program = tmp_path / "bin" / "az"
    program.parent.mkdir()
    program.write_text(f"""#!/bin/sh\necho '{{"accessToken":"{token}","expires_on":{int(time.time()) + 3600}}}'\n""")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    await signs(vault, tmp_path, credential="cli", tenant_id=None)


@pytest.mark.parametrize("kind", ["default", "managed_identity", "workload_identity", "cli"])
async def test_without_credentials_access_is_denied_at_once_and_not_searched_for_with_every_call(
    vault: AzureEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1")
    async with opened(vault, tmp_path, credential=kind, tenant_id=None, client_id=None, **NO_SECRET) as provider:
        for _ in range(5):
            with pytest.raises((ProviderAccessDeniedError, ProviderUnavailableError)) as refused:
                await provider.check(timeout=10)
            assert not any(word in str(refused.value) for word in ("AZURE", "http", "az login"))
    assert len([r for r in caplog.records if "no token" in r.message]) == 1


async def test_a_wrong_secret_is_denied_and_a_replaced_one_noticed(
    vault: AzureEmulator, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sealwright_providers.azure.credentials._PAUSE_SECONDS", 0.1)
    caplog.set_level(logging.INFO)
    async with opened(vault, tmp_path) as provider:
        (tmp_path / "secret").write_text("wrong")
        with pytest.raises(CredentialsRefusedError):
            await provider.check(timeout=SECONDS)
        assert vault.identity.tenant not in caplog.text
        assert "AADSTS" not in caplog.text
        (tmp_path / "secret").write_text("test")
        await asyncio.sleep(0.2)
        await provider.check(timeout=SECONDS)


async def test_a_secret_file_that_is_missing_is_denied(vault: AzureEmulator, tmp_path: Path) -> None:
    async with opened(vault, tmp_path) as provider:
        (tmp_path / "secret").unlink()
        with pytest.raises(CredentialsRefusedError, match="files"):
            await provider.check(timeout=SECONDS)


@pytest.mark.parametrize("fault", ["http_500", "throttle"])
async def test_a_token_endpoint_that_fails_is_an_outage(vault: AzureEmulator, tmp_path: Path, fault: str) -> None:
    vault.add_fault(fault, operation="Token")
    async with opened(vault, tmp_path) as provider:
        with pytest.raises(ProviderUnavailableError):
            await provider.check(timeout=SECONDS)
    assert vault.calls["Token"] == 1


async def test_tokens_that_azure_withdraws_are_replaced_within_the_call(vault: AzureEmulator, tmp_path: Path) -> None:
    async with opened(vault, tmp_path) as provider:
        key = await make(provider)
        vault.identity.revoke_all()
        calls = [provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS) for _ in range(20)]
        assert all(raw.value for raw in await asyncio.gather(*calls))
    assert vault.calls["Token"] == 2


async def test_a_claims_challenge_gets_a_new_token(vault: AzureEmulator, tmp_path: Path) -> None:
    async with opened(vault, tmp_path) as provider:
        key = await make(provider)
        vault.add_fault("claims", operation="Sign", times=2)  # For both ways to send it.
        assert (await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)).value
    assert vault.calls["Token"] == 2


async def test_a_vault_that_refuses_every_token_is_not_asked_in_a_loop(vault: AzureEmulator, tmp_path: Path) -> None:
    async with opened(vault, tmp_path) as provider:
        key = await make(provider)
        vault.reset_calls()
        vault.add_fault("challenge", operation="Sign")
        for _ in range(10):
            with pytest.raises(CredentialsRefusedError):
                await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)
    assert vault.calls["Token"] <= 2


async def test_a_challenge_for_another_domain_gets_no_token(vault: AzureEmulator, tmp_path: Path) -> None:
    async with opened(vault, tmp_path, vault_url=vault.endpoint) as provider:
        with pytest.raises(ProviderAccessDeniedError, match="another domain"):
            await provider.check(timeout=SECONDS)
        assert "Token" not in vault.calls
    async with opened(vault, tmp_path, vault_url=vault.endpoint, verify_challenge_resource=False) as provider:
        await provider.check(timeout=SECONDS)


async def test_a_vault_under_its_real_name_needs_nothing_but_a_resolver(
    vault: AzureEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo
    port = int(vault.endpoint.rpartition(":")[2])

    def resolved(host: str, asked: int, *more: Any, **options: Any) -> Any:
        if host != "sealwright.vault.azure.net":
            return resolve(host, asked, *more, **options)
        return resolve("127.0.0.1", port, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    async with opened(vault, tmp_path, vault_url="https://sealwright.vault.azure.net") as provider:
        key = await make(provider)
        assert key.uri.startswith("azurekms://sealwright.vault.azure.net/keys/sealwright-")
        raw = await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)
        assert raw.key_uri == key.uri
        keys = [await make(provider, many="x") for _ in range(30)]
        assert sorted(await provider.find({"many": "x"}, timeout=20)) == sorted(k.uri for k in keys)


async def test_proxies_in_the_environment_have_no_effect(
    vault: AzureEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with opened(vault, tmp_path) as provider:
        assert (await make(provider)).public_key


class Credential:
    """A credential that counts, and whose tokens live as long as a test wants."""

    def __init__(self, seconds: float, error: Exception | None = None) -> None:
        self.seconds, self.error, self.count, self.closed = seconds, error, 0, 0

    async def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:  # noqa: ARG002
        self.count += 1
        if self.error is not None and self.count > 1:
            raise self.error
        return AccessTokenInfo(f"token-{self.count}", int(time.time() + self.seconds))

    async def close(self) -> None:
        self.closed += 1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...


async def test_a_token_is_renewed_in_the_background_before_it_ends() -> None:
    credential = Credential(120)
    async with TokenSource(lambda: credential) as tokens:
        assert tokens.current() is None
        await tokens.get_token_info("https://vault.azure.net/.default")
        assert tokens.current() == "token-1"
        await until(lambda: tokens.current() == "token-2")
        assert credential.count == 2
    assert credential.closed == 1


async def test_a_token_that_is_about_to_end_is_not_used() -> None:
    async with TokenSource(lambda: Credential(5)) as tokens:
        await tokens.get_token_info("scope")
        assert tokens.current() is None


async def test_a_renewal_that_fails_leaves_the_old_token_in_use(caplog: pytest.LogCaptureFixture) -> None:
    credential = Credential(120, OSError("tenant 4711"))
    async with TokenSource(lambda: credential) as tokens:
        await tokens.get_token_info("scope")
        assert tokens.current() == "token-1"
        await until(lambda: credential.count == 2)
        await asyncio.sleep(0.01)
        assert tokens.current() == "token-1"
    assert "4711" not in caplog.text


async def test_after_a_failure_there_is_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    built = 0

    def build() -> Credential:
        nonlocal built
        built += 1
        raise ValueError("tenant 4711")

    async with TokenSource(build) as tokens:
        for _ in range(5):
            with pytest.raises(ProviderError) as refused:
                await tokens.get_token_info("scope")
            assert "4711" not in str(refused.value)
        assert built == 1
        monkeypatch.setattr(tokens, "_not_before", 0.0)
        with pytest.raises(ProviderError):
            await tokens.get_token_info("scope")
        assert built == 2


def test_a_credential_of_a_sovereign_cloud_is_made_for_it() -> None:
    assert AzureSettings(vault_url="https://a.vault.azure.cn").authority_url.endswith(".cn")
