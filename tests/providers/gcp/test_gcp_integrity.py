"""Checksums and names (c55): whatever is wrong with an answer, no token is made of it."""

from __future__ import annotations

import pytest

from providers.gcp.gcp_support import ES256, SECONDS, accepted, make
from sealwright.errors import ProviderUnavailableError, SignatureRejectedError
from sealwright.jose.algorithms import ALGORITHMS
from sealwright_providers.gcp.limits import TRIES
from sealwright_providers.gcp.provider import GcpProvider
from sealwright_testing.emulators.gcp import GcpEmulator

DAMAGE = ["wrong_crc", "no_crc", "unverified", "other_name", "other_key"]


@pytest.mark.parametrize("fault", DAMAGE)
@pytest.mark.parametrize(
    ("name", "operation"), [("ES256", "AsymmetricSign"), ("EdDSA", "AsymmetricSign"), ("HS256", "MacSign")]
)
async def test_c55_a_damaged_signature_is_discarded_and_the_calls_are_bounded(
    provider: GcpProvider, emulator: GcpEmulator, fault: str, name: str, operation: str
) -> None:
    key = await make(provider, name)
    emulator.reset_calls()
    emulator.add_fault(fault, operation=operation)
    with pytest.raises(SignatureRejectedError, match="wrong checksum") as refused:
        await provider.sign(key.uri, ALGORITHMS[name], b"a.b", timeout=SECONDS)
    assert emulator.calls == {operation: TRIES}
    assert "projects/" not in str(refused.value)


@pytest.mark.parametrize("fault", DAMAGE)
async def test_c55_damage_that_passes_costs_a_repetition(
    provider: GcpProvider, emulator: GcpEmulator, fault: str
) -> None:
    key = await make(provider)
    emulator.add_fault(fault, operation="AsymmetricSign", times=TRIES - 1)
    assert accepted(key, ES256, b"a.b", await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS))


@pytest.mark.parametrize("fault", ["wrong_crc", "no_crc", "other_name", "other_key"])
@pytest.mark.parametrize("name", ["ES256", *(n for n in ("ML-DSA-65",) if n in ALGORITHMS)])
async def test_c55_a_damaged_public_key_is_not_described(
    provider: GcpProvider, emulator: GcpEmulator, fault: str, name: str
) -> None:
    key = await make(provider, name)
    emulator.reset_calls()
    emulator.add_fault(fault, operation="GetPublicKey")
    with pytest.raises(ProviderUnavailableError, match="wrong checksum"):
        await provider.describe(key.uri, timeout=SECONDS)
    assert emulator.calls == {"GetCryptoKeyVersion": 1, "GetPublicKey": TRIES}
    emulator.clear_faults()
    assert await provider.describe(key.uri, timeout=SECONDS) == key


async def test_c55_a_version_described_under_another_name_is_refused(
    provider: GcpProvider, emulator: GcpEmulator
) -> None:
    key = await make(provider)
    emulator.add_fault("other_name", operation="GetCryptoKeyVersion")
    with pytest.raises(ProviderUnavailableError, match="different key"):
        await provider.describe(key.uri, timeout=SECONDS)


@pytest.mark.parametrize("fault", ["wrong_signature", "corrupted_signature"])
async def test_a_wrong_signature_with_a_right_checksum_is_left_to_the_core(
    provider: GcpProvider, emulator: GcpEmulator, fault: str
) -> None:
    key = await make(provider)
    emulator.add_fault(fault, operation="AsymmetricSign")
    assert not accepted(key, ES256, b"a.b", await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS))


@pytest.mark.parametrize("operation", ["AsymmetricSign", "GetPublicKey", "GetCryptoKeyVersion"])
async def test_half_an_answer_is_no_token_and_says_nothing(
    provider: GcpProvider, emulator: GcpEmulator, caplog: pytest.LogCaptureFixture, operation: str
) -> None:
    key = await make(provider)
    emulator.add_fault("malformed", operation=operation)
    call = provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)
    if operation != "AsymmetricSign":
        call.close()
        call = provider.describe(key.uri, timeout=SECONDS)  # type: ignore[assignment]
    with pytest.raises((ProviderUnavailableError, SignatureRejectedError)) as refused:
        await call
    assert "projects/" not in f"{refused.value!r}{refused.value.__cause__!r}{refused.value.__context__!r}"
    assert not caplog.records
