"""ML-DSA at AWS KMS: the message itself up to 4096 bytes, and above that its representative."""

from __future__ import annotations

import asyncio

import pytest

from providers.aws_provider_support import ES256, SECONDS, make, opened
from sealwright.errors import (
    ProviderAccessDeniedError,
    ProviderKeyDisabledError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
)
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.jose.jwk import load_public_key
from sealwright.jose.signatures import verify
from sealwright.provider import KeyDescription, RawSignature
from sealwright_providers.aws.inputs import PublicKeys
from sealwright_providers.aws.provider import AwsProvider
from sealwright_testing.emulators.aws import AwsEmulator

NAMES = ("ML-DSA-44", "ML-DSA-65", "ML-DSA-87")
ML_DSA_44 = ALGORITHMS["ML-DSA-44"]
LONG = b"m" * 4097
every = pytest.mark.parametrize("name", NAMES)


def verified(key: KeyDescription, name: str, message: bytes, raw: RawSignature) -> bool:
    return raw.key_uri == key.uri and verify(
        load_public_key(key.public_key or b""), ALGORITHMS[name], message, raw.value
    )


@every
async def test_c45_a_message_up_to_4096_bytes_is_sent_and_a_longer_one_as_its_representative(
    provider: AwsProvider, emulator: AwsEmulator, name: str
) -> None:
    key = await make(provider, name)
    assert key.algorithms == {name}
    emulator.reset_calls()
    for size in (1, 4095, 4096, 4097, 8192, 64 * 1024):
        message = b"m" * size
        raw = await provider.sign(key.uri, ALGORITHMS[name], message, timeout=SECONDS)
        assert verified(key, name, message, raw)
        assert not verified(key, name, message + b"m", raw)
    sent = [(r.algorithm, r.message_type, r.message_length) for r in emulator.requests if r.operation == "Sign"]
    direct = [("ML_DSA_SHAKE_256", "RAW", size) for size in (1, 4095, 4096)]
    assert sent == [*direct, *[("ML_DSA_SHAKE_256", "EXTERNAL_MU", 64)] * 3]
    assert emulator.calls == {"Sign": 6, "GetPublicKey": 1}


async def test_the_public_key_is_fetched_with_the_first_long_message_alone(
    http: AwsProvider, emulator: AwsEmulator
) -> None:
    first, second = await make(http, "ML-DSA-44"), await make(http, "ML-DSA-44")
    async with opened(emulator.endpoint) as restarted:
        emulator.reset_calls()
        for _ in range(3):
            for key in (first, second):
                raw = await restarted.sign(key.uri, ML_DSA_44, LONG, timeout=SECONDS)
                assert verified(key, "ML-DSA-44", LONG, raw)
    assert emulator.calls == {"Sign": 6, "GetPublicKey": 2}


async def test_message_raw_has_no_effect_on_ml_dsa(emulator: AwsEmulator) -> None:
    async with opened(emulator.endpoint, message="raw") as raw:
        key = await make(raw, "ML-DSA-44")
        assert verified(key, "ML-DSA-44", LONG, await raw.sign(key.uri, ML_DSA_44, LONG, timeout=SECONDS))


@pytest.mark.parametrize("size", [4096, 4097])
@pytest.mark.parametrize("other", ["ES256", "RS256"])
async def test_another_keys_algorithm_is_refused_at_any_size(http: AwsProvider, other: str, size: int) -> None:
    key = await make(http, other)
    with pytest.raises(ProviderUnsupportedError):
        await http.sign(key.uri, ML_DSA_44, b"m" * size, timeout=SECONDS)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"kind": "error", "type": "AccessDeniedException"}, ProviderAccessDeniedError),
        ({"kind": "error", "type": "DisabledException"}, ProviderKeyDisabledError),
        ({"kind": "http_500"}, ProviderUnavailableError),
    ],
)
async def test_a_public_key_that_cannot_be_fetched_is_not_remembered(
    http: AwsProvider, emulator: AwsEmulator, fault: dict[str, str], error: type[Exception]
) -> None:
    key = await make(http, "ML-DSA-44")
    emulator.add_fault(operation="GetPublicKey", **fault)
    emulator.reset_calls()
    with pytest.raises(error):
        await http.sign(key.uri, ML_DSA_44, LONG, timeout=SECONDS)
    assert emulator.calls == {"GetPublicKey": 1}
    emulator.clear_faults()
    assert verified(key, "ML-DSA-44", LONG, await http.sign(key.uri, ML_DSA_44, LONG, timeout=SECONDS))


async def test_both_calls_share_one_deadline(http: AwsProvider, emulator: AwsEmulator) -> None:
    key = await make(http, "ML-DSA-44")
    emulator.add_fault("delay", seconds=0.3)
    emulator.reset_calls()
    with pytest.raises(ProviderTimeoutError):
        await http.sign(key.uri, ML_DSA_44, LONG, timeout=0.45)
    assert emulator.calls == {"GetPublicKey": 1, "Sign": 1}


async def test_the_signature_of_another_parameter_set_does_not_verify(http: AwsProvider) -> None:
    """AWS KMS has one SigningAlgorithm for all three."""
    key = await make(http, "ML-DSA-65")
    raw = await http.sign(key.uri, ML_DSA_44, b"m", timeout=SECONDS)
    assert not verified(key, "ML-DSA-44", b"m", raw)
    with pytest.raises(ProviderUnsupportedError, match="ML-DSA-44"):
        await http.sign(key.uri, ML_DSA_44, LONG, timeout=SECONDS)


async def test_the_representative_of_another_key_never_passes_for_a_signature(http: AwsProvider) -> None:
    key, other = await make(http, "ML-DSA-44"), await make(http, "ML-DSA-44")
    http._public_keys.add(key.uri.removeprefix("awskms:///"), other.public_key or b"")
    raw = await http.sign(key.uri, ML_DSA_44, LONG, timeout=SECONDS)
    assert not verified(key, "ML-DSA-44", LONG, raw)


async def test_fifty_long_messages_at_once_all_sign(http: AwsProvider) -> None:
    key = await make(http, "ML-DSA-44")
    messages = [LONG + bytes([n]) for n in range(50)]
    raws = await asyncio.gather(*(http.sign(key.uri, ML_DSA_44, m, timeout=SECONDS) for m in messages))
    assert all(verified(key, "ML-DSA-44", m, r) for m, r in zip(messages, raws, strict=True))


async def test_the_number_of_remembered_keys_is_bounded(http: AwsProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sealwright_providers.aws.inputs._MAX_KEYS", 2)
    spki = (await make(http, "ML-DSA-44")).public_key or b""
    keys = PublicKeys()
    for arn in "abc":
        keys.add(arn, spki)
    assert [arn in keys for arn in "abc"] == [False, False, True]
    with pytest.raises(ProviderUnavailableError):
        keys.add("d", b"\x30\x00")
    with pytest.raises(ProviderUnsupportedError):
        keys.representative("c", ES256, LONG)
