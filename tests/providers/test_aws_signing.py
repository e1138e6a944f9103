from __future__ import annotations

import asyncio
import threading

import pytest
from cryptography.hazmat.primitives.asymmetric import utils

from providers.aws_provider_support import (
    ES256,
    HEADER,
    SECONDS,
    arn_of,
    ask,
    assert_signed,
    make,
    opened,
    signing_input,
)
from sealwright.errors import MessageTooLargeError, ProviderUnsupportedError, SignatureRejectedError
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.jose.jwk import load_public_key
from sealwright.jose.signatures import SignatureEncoding, normalise, verify
from sealwright_providers.aws.provider import AwsProvider
from sealwright_providers.aws.transport import Answer
from sealwright_testing.emulators.aws import AwsEmulator, KeySpec


def digest_size(name: str) -> int:
    return int(name[2:]) // 8


async def test_c46_every_algorithm_signs_a_digest_of_its_own_hash_and_another_library_agrees(
    provider: AwsProvider, emulator: AwsEmulator
) -> None:
    rsa = await make(provider, "RS256")
    keys = {name: rsa if name[0] != "E" else await make(provider, name) for name in HEADER}
    emulator.reset_calls()
    for name, key in keys.items():
        algorithm = ALGORITHMS[name]
        message = signing_input(algorithm)
        assert_signed(key, algorithm, message, await provider.sign(key.uri, algorithm, message, timeout=SECONDS))
    # Only digests leave the process, each of the length of its algorithm.
    sent = [(r.operation, r.message_type, r.message_length) for r in emulator.requests]
    assert sent == [("Sign", "DIGEST", digest_size(name)) for name in HEADER]


async def test_c06_ecdsa_comes_as_der_and_rsa_as_jose_has_it(provider: AwsProvider) -> None:
    for name, encoding in (("ES384", SignatureEncoding.DER), ("PS256", SignatureEncoding.OPAQUE)):
        key = await make(provider, name)
        raw = await provider.sign(key.uri, ALGORITHMS[name], b"a.b", timeout=SECONDS)
        assert raw.encoding is encoding
        assert raw.request_id
        if ALGORITHMS[name].two_integers:
            utils.decode_dss_signature(raw.value)
            assert len(normalise(raw.value, raw.encoding, ALGORITHMS[name])) == 96


@pytest.mark.parametrize("kind", ["wrong_signature", "truncated_signature", "other_key"])
async def test_c08_a_signature_by_another_key_does_not_pass_for_the_published_ones(
    http: AwsProvider, emulator: AwsEmulator, kind: str
) -> None:
    key = await make(http, "RS256")
    emulator.add_fault(kind, operation="Sign")
    raw = await http.sign(key.uri, ALGORITHMS["RS256"], b"a.b", timeout=SECONDS)
    assert not verify(load_public_key(key.public_key or b""), ALGORITHMS["RS256"], b"a.b", raw.value)
    assert (raw.key_uri == key.uri) is (kind != "other_key")


@pytest.mark.parametrize("size", [4095, 4096, 4097, 8192, 100_000])
async def test_c45_a_digest_has_no_limit_of_4096_bytes(http: AwsProvider, size: int) -> None:
    key = await make(http)
    message = signing_input(ES256, size)
    assert len(message) == size
    assert_signed(key, ES256, message, await http.sign(key.uri, ES256, message, timeout=SECONDS))


async def test_c45_a_raw_message_ends_at_4096_bytes_before_any_call(emulator: AwsEmulator, transport: str) -> None:
    async with opened(emulator.endpoint, message="raw", transport=transport) as raw:
        key = await make(raw)
        emulator.reset_calls()
        message = signing_input(ES256, 4096)
        assert_signed(key, ES256, message, await raw.sign(key.uri, ES256, message, timeout=SECONDS))
        with pytest.raises(MessageTooLargeError, match="4096") as refused:
            await raw.sign(key.uri, ES256, message + b"e", timeout=SECONDS)
    assert refused.value.metadata == {"size": "4097", "limit": "4096"}
    assert [(r.message_type, r.message_length) for r in emulator.requests] == [("RAW", 4096)]


@pytest.mark.parametrize("name", ["EdDSA", "Ed25519"])
async def test_c37_ed25519_is_sent_raw_and_never_prehashed(http: AwsProvider, emulator: AwsEmulator, name: str) -> None:
    key = await make(http, name)
    message = b"m" * 200
    raw = await http.sign(key.uri, ALGORITHMS[name], message, timeout=SECONDS)
    assert verify(load_public_key(key.public_key or b""), ALGORITHMS[name], message, raw.value)
    sent = emulator.requests[-1]
    assert (sent.algorithm, sent.message_type, sent.message_length) == ("ED25519_SHA_512", "RAW", 200)


@pytest.mark.parametrize("name", ["EdDSA", "HS256"])
async def test_c38_what_has_no_digest_ends_at_4096_bytes_without_a_call(
    http: AwsProvider, emulator: AwsEmulator, name: str
) -> None:
    key = await make(http, name)
    assert (await http.sign(key.uri, ALGORITHMS[name], b"m" * 4096, timeout=SECONDS)).value
    emulator.reset_calls()
    with pytest.raises(MessageTooLargeError, match="4096"):
        await http.sign(key.uri, ALGORITHMS[name], b"m" * 4097, timeout=SECONDS)
    assert not emulator.calls


@pytest.mark.parametrize(("name", "size"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
async def test_a_secret_key_makes_macs_and_has_no_public_half(provider: AwsProvider, name: str, size: int) -> None:
    key = await make(provider, name)
    assert (key.public_key, set(key.algorithms)) == (None, {name})
    first, second = [await provider.sign(key.uri, ALGORITHMS[name], b"a.b", timeout=SECONDS) for _ in range(2)]
    assert first.value == second.value
    assert len(first.value) == size
    assert first.key_uri == key.uri


async def test_c33_rs256_of_an_ec_key_is_refused(provider: AwsProvider) -> None:
    key = await make(provider)
    assert key.algorithms == {"ES256"}
    with pytest.raises(ProviderUnsupportedError):
        await provider.sign(key.uri, ALGORITHMS["RS256"], b"a.b", timeout=SECONDS)


async def test_an_answer_that_names_another_algorithm_is_rejected(
    http: AwsProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await make(http, "RS256")
    real = http._transport.call

    async def with_pss(operation: str, fields: dict[str, object], *, timeout: float) -> Answer:
        answer = await real(operation, fields, timeout=timeout)
        answer.fields["SigningAlgorithm"] = "RSASSA_PSS_SHA_256"
        return answer

    monkeypatch.setattr(http._transport, "call", with_pss)
    with pytest.raises(SignatureRejectedError):
        await http.sign(key.uri, ALGORITHMS["RS256"], b"a.b", timeout=SECONDS)


async def test_c52_an_alias_that_moves_leaves_signing_with_the_pinned_key(
    provider: AwsProvider, emulator: AwsEmulator
) -> None:
    first, second = await make(provider), await make(provider)
    await ask(provider, "CreateAlias", AliasName="alias/s", TargetKeyId=arn_of(first))
    pinned = await provider.describe("awskms:///alias/s", timeout=SECONDS)
    await ask(provider, "UpdateAlias", AliasName="alias/s", TargetKeyId=arn_of(second))
    emulator.reset_calls()
    raw = await provider.sign(pinned.uri, ES256, b"a.b", timeout=SECONDS)
    assert_signed(first, ES256, b"a.b", raw)
    assert [r.reference for r in emulator.requests] == [arn_of(first)]
    assert (await provider.describe("awskms:///alias/s", timeout=SECONDS)).uri == second.uri


async def test_c56_a_signature_is_one_call(http: AwsProvider, emulator: AwsEmulator) -> None:
    key = await make(http)
    emulator.reset_calls()
    for _ in range(10):
        await http.sign(key.uri, ES256, b"a.b", timeout=SECONDS)
    assert emulator.calls == {"Sign": 10}


async def test_c112_fifty_first_requests_at_once_all_sign(emulator: AwsEmulator, transport: str) -> None:
    async with opened(emulator.endpoint) as other:
        keys = [await make(other) for _ in range(5)]
    threads = threading.active_count()
    async with opened(emulator.endpoint, transport=transport) as fresh:
        messages = [signing_input(ES256, 200 + n) for n in range(50)]
        raws = await asyncio.gather(
            *(fresh.sign(keys[n % 5].uri, ES256, m, timeout=SECONDS) for n, m in enumerate(messages))
        )
        for n, (message, raw) in enumerate(zip(messages, raws, strict=True)):
            assert_signed(keys[n % 5], ES256, message, raw)
        # The pool for boto3 is bounded, and asyncio's own has a thread or two for finding credentials.
        assert threading.active_count() <= threads + 16 + 4
    assert emulator.calls["Sign"] == 50


async def test_every_spec_of_the_emulator_is_described_by_the_algorithms_that_its_keys_sign_with(
    http: AwsProvider,
) -> None:
    rsa = set(HEADER) - {"ES256", "ES384", "ES512"}
    expected = {
        KeySpec("RSA_2048"): rsa,
        KeySpec("ECC_NIST_P256"): {"ES256"},
        KeySpec("ECC_NIST_P384"): {"ES384"},
        KeySpec("ECC_NIST_P521"): {"ES512"},
        KeySpec("ECC_SECG_P256K1"): {"ES256K"},
        KeySpec("ECC_NIST_EDWARDS25519"): {"EdDSA", "Ed25519"},
        KeySpec("ML_DSA_44"): {"ML-DSA-44"},
        KeySpec("ML_DSA_65"): {"ML-DSA-65"},
        KeySpec("ML_DSA_87"): {"ML-DSA-87"},
    }
    for spec, algorithms in expected.items():
        made = await ask(http, "CreateKey", KeySpec=spec, KeyUsage="SIGN_VERIFY")
        found = await http.describe(f"awskms:///{made['KeyMetadata']['Arn']}", timeout=SECONDS)
        assert found.algorithms == algorithms
