"""How the service identifies itself to Google: over TLS, with real credentials of google-auth, and never in the event loop."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from google.auth import exceptions

from providers.gcp.gcp_support import ES256, SECONDS, make, opened, service_account
from sealwright.errors import (
    ConfigurationError,
    ProviderAccessDeniedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from sealwright_providers.gcp.credentials import SCOPE, CredentialSource
from sealwright_providers.gcp.errors import CredentialsRefusedError
from sealwright_providers.gcp.provider import GcpProvider
from sealwright_testing.emulators.gcp import GcpEmulator

REFRESH_ERROR: Any = exceptions.RefreshError
TRANSPORT_ERROR: Any = exceptions.TransportError
URI = "gcpkms://projects/sealwright-test/locations/europe-west1/keyRings/tokens/cryptoKeys/k/cryptoKeyVersions/1"


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[GcpEmulator, str]]:
    """An emulator with TLS that asks for a token, and the path of its CA."""
    with GcpEmulator(tls=True) as emulator:
        ca = tmp_path / "ca.pem"
        ca.write_bytes(emulator.ca)
        yield emulator, str(ca)


@asynccontextmanager
async def over_tls(secure: tuple[GcpEmulator, str], **more: Any) -> AsyncIterator[GcpProvider]:
    emulator, ca = secure
    fields: dict[str, Any] = {"ca_file": ca, "insecure_endpoint": False}
    async with opened(emulator, **(fields | more)) as provider:
        yield provider


async def test_a_service_account_signs_its_own_tokens(secure: tuple[GcpEmulator, str], tmp_path: Path) -> None:
    # Nothing listens at the token endpoint, so this would fail if it were asked.
    path = service_account(tmp_path / "sa.json", "https://127.0.0.1:1/token")
    seen: list[str] = []
    emulator = secure[0]
    authenticate = emulator._handler._authenticate
    emulator._handler._authenticate = lambda token: (seen.append(token), authenticate(token))[1]  # type: ignore[method-assign,func-returns-value]
    async with over_tls(secure, credentials_file=path) as provider:
        key = await make(provider)
        assert (await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)).value
    assert len(set(seen)) == 1
    claims = jwt.decode(seen[0].removeprefix("Bearer "), options={"verify_signature": False})
    assert (claims["iss"], claims["scope"]) == ("signer@p.iam.gserviceaccount.com", SCOPE)
    assert all(r.authorized and "x-goog-request-params" in r.metadata for r in emulator.requests)


async def test_application_default_credentials_are_found(
    secure: tuple[GcpEmulator, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", service_account(tmp_path / "sa.json"))
    async with over_tls(secure) as provider:
        await provider.check(timeout=SECONDS)
    assert secure[0].requests[-1].authorized


async def test_endpoints_and_proxies_in_the_environment_have_no_effect(
    secure: tuple[GcpEmulator, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "grpc_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "example.com")
    monkeypatch.setenv("GOOGLE_API_USE_MTLS_ENDPOINT", "always")
    async with over_tls(secure, credentials_file=service_account(tmp_path / "sa.json")) as provider:
        await provider.check(timeout=SECONDS)


async def test_a_server_with_another_authority_is_not_trusted(secure: tuple[GcpEmulator, str], tmp_path: Path) -> None:
    path = service_account(tmp_path / "sa.json")
    async with opened(secure[0], credentials_file=path, insecure_endpoint=False) as provider:
        with pytest.raises(ProviderUnavailableError):
            await provider.check(timeout=2)
    assert secure[0].calls == {}


async def test_a_ca_file_that_is_missing(secure: tuple[GcpEmulator, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ca_file"):
        async with over_tls(
            secure, credentials_file=service_account(tmp_path / "sa.json"), ca_file=str(tmp_path / "no")
        ):
            pass


async def test_workload_identity_federation_exchanges_its_token(
    secure: tuple[GcpEmulator, str], tmp_path: Path
) -> None:
    asked: list[dict[str, str]] = []

    async def token(request: web.Request) -> web.Response:
        asked.append({k: str(v) for k, v in (await request.post()).items()})
        fields = {"access_token": f"federated-{len(asked)}", "token_type": "Bearer", "expires_in": 3600}
        return web.json_response({**fields, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"})

    app = web.Application()
    app.router.add_post("/v1/token", token)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    subject = tmp_path / "subject"
    subject.write_text("token-of-the-platform")
    config = tmp_path / "wif.json"
    fields = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"http://127.0.0.1:{runner.addresses[0][1]}/v1/token",
        "credential_source": {"file": str(subject)},
    }
    config.write_text(json.dumps(fields))
    secure[0].accept_tokens("federated-1", "federated-2")
    try:
        async with over_tls(secure, credentials_file=str(config)) as provider:
            await asyncio.gather(*(provider.check(timeout=SECONDS) for _ in range(20)))
            assert [a["subject_token"] for a in asked] == ["token-of-the-platform"]
            # Google takes the token back: the call fails, and the next one has a new token.
            secure[0].accept_tokens("federated-2")
            await asyncio.sleep(1.1)
            with pytest.raises(CredentialsRefusedError):
                await provider.check(timeout=SECONDS)
            await provider.check(timeout=SECONDS)
            assert len(asked) == 2
    finally:
        await runner.cleanup()


async def test_a_missing_subject_token_is_refused_credentials_and_named_nowhere(
    secure: tuple[GcpEmulator, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tmp_path / "wif.json"
    fields = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "http://127.0.0.1:1/v1/token",
        "credential_source": {"file": str(tmp_path / "absent")},
    }
    config.write_text(json.dumps(fields))
    async with over_tls(secure, credentials_file=str(config)) as provider:
        with pytest.raises(CredentialsRefusedError) as refused:
            await provider.check(timeout=SECONDS)
    assert secure[0].calls == {}
    assert "absent" not in str(refused.value) + caplog.text
    assert "Google credentials cannot be renewed (RefreshError)" in caplog.text


class Fake:
    """Credentials whose renewal a test controls."""

    def __init__(self, seconds: float | None = 3600) -> None:
        self.seconds = seconds
        self.expiry: datetime | None = None
        self.renewals = 0
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.threads: set[int] = set()

    def refresh(self, _request: object) -> None:
        self.threads.add(threading.get_ident())
        self.gate.wait(10)
        if self.error is not None:
            raise self.error
        self.renewals += 1
        if self.seconds is not None:
            self.expiry = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=self.seconds)

    def before_request(self, _request: object, _method: str, _url: str, headers: dict[str, str]) -> None:
        headers["authorization"] = f"Bearer {self.renewals}"


@asynccontextmanager
async def source_of(fake: Fake) -> AsyncIterator[CredentialSource]:
    source = CredentialSource(fake)
    try:
        yield source
    finally:
        fake.gate.set()
        await source.aclose()


async def test_a_token_is_fetched_once_for_all_and_in_another_thread() -> None:
    fake = Fake()
    async with source_of(fake) as source:
        found = await asyncio.gather(*(source.headers() for _ in range(50)))
    assert set(found) == {(("authorization", "Bearer 1"),)}
    assert fake.renewals == 1
    assert threading.get_ident() not in fake.threads


async def test_credentials_that_do_not_expire_are_fetched_once() -> None:
    fake = Fake(None)
    async with source_of(fake) as source:
        for _ in range(3):
            await source.headers()
    assert fake.renewals == 1


async def test_a_token_near_its_end_is_renewed_while_calls_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sealwright_providers.gcp.credentials._RENEWAL_SECONDS", 0.05)
    fake = Fake(100)
    async with source_of(fake) as source:
        await source.headers()
        await asyncio.sleep(1.1)
        fake.gate.clear()
        start = time.monotonic()
        assert await source.headers() == (("authorization", "Bearer 1"),)
        assert time.monotonic() - start < 0.5
        fake.gate.set()
        await asyncio.sleep(0.2)
        assert await source.headers() == (("authorization", "Bearer 2"),)


async def test_a_caller_that_leaves_does_not_end_the_renewal_for_others() -> None:
    fake = Fake()
    fake.gate.clear()
    async with source_of(fake) as source:
        callers = [asyncio.ensure_future(source.headers()) for _ in range(3)]
        await asyncio.sleep(0.05)
        callers[0].cancel()
        await asyncio.sleep(0.05)
        fake.gate.set()
        assert await callers[1] == await callers[2] == (("authorization", "Bearer 1"),)
    assert fake.renewals == 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (REFRESH_ERROR("invalid_grant: signer@p.iam.gserviceaccount.com"), CredentialsRefusedError),
        (REFRESH_ERROR("503", retryable=True), ProviderUnavailableError),
        (TRANSPORT_ERROR("https://oauth2.googleapis.com"), ProviderUnavailableError),
        (OSError("/var/secret"), CredentialsRefusedError),
    ],
)
async def test_failures_have_a_type_and_no_text_and_do_not_storm(
    caplog: pytest.LogCaptureFixture, error: Exception, expected: type[Exception]
) -> None:
    caplog.set_level(logging.INFO)
    fake = Fake()
    fake.error = error
    async with source_of(fake) as source:
        texts = ""
        for _ in range(5):
            with pytest.raises(expected) as refused:
                await source.headers()
            texts += f"{refused.value!r}{refused.value.__cause__!r}"
        assert len(caplog.records) == 1
        assert not any(word in texts + caplog.text for word in ("gserviceaccount", "https://", "/var"))
        fake.error = None
        await asyncio.sleep(1.1)
        assert await source.headers()
    assert issubclass(CredentialsRefusedError, ProviderAccessDeniedError)


async def test_a_hanging_source_ends_with_the_callers_deadline(secure: tuple[GcpEmulator, str], tmp_path: Path) -> None:
    fake = Fake()
    fake.gate.clear()
    async with over_tls(secure, credentials_file=service_account(tmp_path / "sa.json")) as provider:
        provider._channel._source = CredentialSource(fake)
        start = time.monotonic()
        for call in (provider.check(timeout=0.3), provider.describe(URI, timeout=0.3)):
            with pytest.raises(ProviderTimeoutError):
                await call
        assert time.monotonic() - start < 1.5
        fake.gate.set()
