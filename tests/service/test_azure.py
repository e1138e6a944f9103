"""The whole service on Azure Key Vault and Managed HSM."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from joserfc.jwk import KeySet

from providers.azure.azure_support import options
from sealwright_testing.emulators.azure import AzureEmulator
from support.document import document, issuer
from support.service import Service, failure, running, until

JWKS = "/payments/.well-known/jwks.json"
ALLOWED = {"EC": {"kty", "crv", "x", "y", "use", "alg", "kid"}, "RSA": {"kty", "n", "e", "use", "alg", "kid"}}


@pytest_asyncio.fixture
async def vault() -> AsyncIterator[AzureEmulator]:
    async with AzureEmulator() as one:
        yield one


@pytest_asyncio.fixture
async def hsm() -> AsyncIterator[AzureEmulator]:
    async with AzureEmulator(managed_hsm=True) as one:
        yield one


def configuration(
    directory: Path, vault: AzureEmulator, *algorithms: str, patience: str = "10s", **more: Any
) -> dict[str, Any]:
    """Return the configuration of a service with one issuer on a vault."""
    one = issuer("payments", *algorithms, **more)
    for series in one["series"]:
        series["provider"] = "azure"
    provider = options(vault, directory / "secret", manage_timeout=patience)
    return document(directory, "", one, providers={"azure": provider})


async def test_c18_c19_c20_c24_the_served_set_of_a_managed_hsm_is_that_of_jose(
    tmp_path: Path, hsm: AzureEmulator
) -> None:
    config = configuration(tmp_path, hsm, "RS256", "ES256", "ES256K", "HS256", mixed_key_types=True)
    async with running(config) as service:
        assert {key.kind for key in hsm.keys} == {"RSA-HSM", "EC-HSM", "oct-HSM"}
        _, _, body = await service.get(JWKS)
        keys = json.loads(body)["keys"]
        assert Counter((k["kty"], k.get("crv")) for k in keys) == {
            ("RSA", None): 2,
            ("EC", "P-256"): 2,
            ("EC", "secp256k1"): 2,
        }
        for key in keys:
            assert set(key) == ALLOWED[key["kty"]]
            assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", key["kid"])
        assert not re.search(b"HSM|P-256K|key_ops|localhost|azure", body)
        assert len(KeySet.import_key_set(json.loads(body)).keys) == 6
        for algorithm in ("RS256", "ES256"):
            await service.verify((await service.sign(algorithm=algorithm)).token)
        assert (await service.sign(algorithm="HS256")).token


async def test_c53_c56_a_token_is_one_signature_by_the_pinned_version(tmp_path: Path, vault: AzureEmulator) -> None:
    async with running(configuration(tmp_path, vault)) as service:
        await service.sign()
        vault.reset_calls()
        signed = [await service.sign() for _ in range(5)]
        assert dict(vault.calls) == {"Sign": 5}
        (version,) = {record.version for record in vault.requests}
        uris = {k.kid: k.key_uri for k in await service.list_keys()}
        assert {uris[s.kid].rpartition("/")[2] for s in signed} == {version}
        await service.verify(signed[0].token)


@pytest.mark.parametrize("fault", ["other_key", "other_name", "wrong_signature", "corrupted_signature"])
async def test_c53_what_another_version_signed_never_leaves(tmp_path: Path, vault: AzureEmulator, fault: str) -> None:
    async with running(configuration(tmp_path, vault)) as service:
        await service.sign()
        vault.add_fault(fault, operation="Sign")
        refused = await failure(service.sign())
        assert refused.reason == "SIGNATURE_REJECTED"
        vault.clear_faults()
        await service.verify((await service.sign()).token)


async def test_throttling_reaches_the_caller_with_the_time_to_wait(tmp_path: Path, vault: AzureEmulator) -> None:
    async with running(configuration(tmp_path, vault)) as service:
        await service.sign()
        vault.add_fault("throttle", operation="Sign", retry_after=30)
        refused = await failure(service.sign(timeout=2))
        assert (refused.code, refused.reason, refused.retry_after) == ("RESOURCE_EXHAUSTED", "PROVIDER_THROTTLED", 30)
        assert "localhost" not in refused.message
        assert refused.metadata.get("provider") == "azure"


@pytest.mark.parametrize("kind", ["hang", "drop_connection", "http_500"])
@pytest.mark.parametrize(
    ("operation", "after"),
    [("GetKeyVersions", False), ("CreateKey", False), ("CreateKey", True), ("GetKey", False), ("Token", False)],
)
async def test_c59_a_crash_at_any_call_of_a_creation_leaves_one_key_for_each_intent(
    tmp_path: Path,
    vault: AzureEmulator,
    operation: str,
    after: bool,  # noqa: FBT001 - a case
    kind: str,
) -> None:
    config = configuration(tmp_path, vault, patience="1s")
    vault.add_fault(kind, operation=operation, after=after)
    async with running(config, wait=False):
        await until(lambda: asked(vault, operation))
        await asyncio.sleep(0.1)
    vault.clear_faults()
    async with running(config, wait=False) as service:
        await until(lambda: published(service, 2))
        uris = {k.key_uri.rpartition("/")[2] for k in await service.list_keys()}
    assert uris == {key.version for key in vault.keys}
    assert len({key.tags["sealwright:intent"] for key in vault.keys}) == len({key.name for key in vault.keys}) == 2
    assert not any(key.deleted for key in vault.keys)


async def test_c59_many_crashes_leave_no_more_keys(tmp_path: Path, vault: AzureEmulator) -> None:
    config = configuration(tmp_path, vault, patience="1s")
    vault.add_fault("hang", operation="GetKey")
    for _ in range(5):
        async with running(config, wait=False):
            await asyncio.sleep(0.2)
    assert len(vault.keys) <= 2
    vault.clear_faults()
    async with running(config, wait=False) as service:
        await until(lambda: published(service, 2))
    assert len(vault.keys) == 2


async def test_a_revoked_key_is_disabled_in_the_vault_and_its_version_alone(
    tmp_path: Path, vault: AzureEmulator
) -> None:
    async with running(configuration(tmp_path, vault)) as service:
        active, _ = await service.list_keys()
        await service.revoke(active.kid)
        await until(lambda: disabled(vault, active.key_uri.rpartition("/")[2]))
        await service.verify((await service.sign()).token)
    assert not any(key.deleted for key in vault.keys)


async def asked(vault: AzureEmulator, operation: str) -> bool:
    return bool(vault.calls.get(operation))


async def published(service: Service, wanted: int) -> bool:
    return len(await service.list_keys()) >= wanted


async def disabled(vault: AzureEmulator, version: str) -> bool:
    return not next(key for key in vault.keys if key.version == version).enabled
