from __future__ import annotations

import hashlib
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from providers.gcp.gcp_support import ES256, SECONDS, SIGNING, accepted, make, name_of
from sealwright.errors import MessageTooLargeError, ProviderUnsupportedError
from sealwright.jose import base64url, jwk
from sealwright.jose.algorithms import ALGORITHMS, Algorithm
from sealwright.jose.signatures import normalise
from sealwright.keys.making import check_key
from sealwright.provider import KEY_KINDS, KeySpec, Protection, SignatureEncoding
from sealwright_providers.gcp import algorithms
from sealwright_providers.gcp.algorithms import KMS_ALGORITHMS, jws_algorithms
from sealwright_providers.gcp.provider import GcpProvider
from sealwright_testing.emulators.gcp import GcpEmulator

PREHASHED = [a for a in SIGNING if a.prehashed]
WHOLE = [a for a in SIGNING if not a.prehashed]


def by_name(algorithm: Algorithm) -> str:
    return algorithm.name


@pytest.mark.parametrize("algorithm", SIGNING, ids=by_name)
async def test_every_algorithm_signs_and_the_core_accepts_it(provider: GcpProvider, algorithm: Algorithm) -> None:
    key = check_key(await make(provider, algorithm.name), algorithm.name, Protection.HSM)
    raw = await provider.sign(key.uri, algorithm, b"header.payload", timeout=SECONDS)
    assert accepted(key, algorithm, b"header.payload", raw)
    assert not accepted(key, algorithm, b"header.other", raw)


async def test_c06_ecdsa_signatures_are_der_and_become_r_and_s(provider: GcpProvider) -> None:
    for name, size in (("ES256", 32), ("ES384", 48), ("ES256K", 32)):
        key = await make(provider, name)
        raw = await provider.sign(key.uri, ALGORITHMS[name], b"a.b", timeout=SECONDS)
        assert raw.encoding is SignatureEncoding.DER
        r, s = decode_dss_signature(raw.value)
        assert normalise(raw.value, raw.encoding, ALGORITHMS[name]) == r.to_bytes(size, "big") + s.to_bytes(size, "big")


async def test_c06_other_signatures_are_the_bytes_of_jose(provider: GcpProvider) -> None:
    for name, size in (("PS256", 256), ("EdDSA", 64)):
        key = await make(provider, name)
        raw = await provider.sign(key.uri, ALGORITHMS[name], b"a.b", timeout=SECONDS)
        assert (raw.encoding, len(raw.value)) == (SignatureEncoding.OPAQUE, size)


async def test_c24_the_kid_says_nothing_about_the_key_in_the_kms(provider: GcpProvider, emulator: GcpEmulator) -> None:
    key = await make(provider)
    kid = jwk.key_id(key.public_key, key.uri)
    assert not any(part in kid for part in (emulator.project, "projects", "/", ":", "+", "="))


@pytest.mark.parametrize(
    ("version_algorithm", "expected"),
    [
        ("RSA_SIGN_PKCS1_2048_SHA256", {"RS256"}),
        ("RSA_SIGN_PKCS1_4096_SHA512", {"RS512"}),
        ("RSA_SIGN_PSS_3072_SHA256", {"PS256"}),
        ("EC_SIGN_P384_SHA384", {"ES384"}),
        ("EC_SIGN_ED25519", {"EdDSA", "Ed25519"}),
        ("HMAC_SHA384", {"HS384"}),
        ("RSA_SIGN_RAW_PKCS1_2048", set()),
        ("PQ_SIGN_ML_DSA_65_EXTERNAL_MU", set()),
        ("RSA_DECRYPT_OAEP_2048_SHA256", set()),
        ("HMAC_SHA224", set()),
        ("99999", set()),
    ],
)
def test_c35_a_version_has_the_algorithms_of_its_own_and_no_other(version_algorithm: str, expected: set[str]) -> None:
    assert jws_algorithms(version_algorithm) == expected


async def test_c35_a_digest_of_another_hash_never_reaches_a_version(
    provider: GcpProvider, emulator: GcpEmulator
) -> None:
    key = await make(provider, "RS512")
    emulator.reset_calls()
    for name in ("RS256", "PS512", "ES256", "HS512"):
        with pytest.raises(ProviderUnsupportedError, match=f"does not sign with {name}"):
            await provider.sign(key.uri, ALGORITHMS[name], b"a.b", timeout=SECONDS)
    assert emulator.calls == {}


async def test_c35_raw_rsa_keys_are_refused(provider: GcpProvider, emulator: GcpEmulator) -> None:
    key = await make(provider, "RS256")
    emulator._version(name_of(key)).algorithm = "RSA_SIGN_RAW_PKCS1_2048"
    with pytest.raises(ProviderUnsupportedError, match="cannot be used"):
        await provider.describe(key.uri, timeout=SECONDS)


@pytest.mark.parametrize("name", ["RS384", "PS384", "ES512"])
async def test_c35_what_google_does_not_have_is_refused_without_a_call(
    provider: GcpProvider, emulator: GcpEmulator, name: str
) -> None:
    with pytest.raises(ProviderUnsupportedError, match=name):
        await make(provider, name)
    with pytest.raises(ProviderUnsupportedError, match=name):
        await provider.sign(
            f"gcpkms://{emulator.ring}/cryptoKeys/k/cryptoKeyVersions/1", ALGORITHMS[name], b"a", timeout=1
        )
    assert emulator.calls == {}


async def test_c39_one_ed25519_key_serves_both_names_and_the_configuration_chooses(provider: GcpProvider) -> None:
    key = await make(provider, "Ed25519")
    assert key.algorithms == {"EdDSA", "Ed25519"}
    assert check_key(key, "EdDSA", None) is check_key(key, "Ed25519", None)


async def test_c40_a_public_key_arrives_as_pem_and_gives_the_same_jwk(
    provider: GcpProvider, emulator: GcpEmulator
) -> None:
    key = await make(provider, "EdDSA")
    raw = emulator._version(name_of(key)).material.public_key().public_bytes_raw()
    public = jwk.load_public_key(key.public_key or b"")
    assert dict(ALGORITHMS["EdDSA"].kind.members(public))["x"] == base64url.encode(raw)
    assert len(key.public_key or b"") == 44


@pytest.mark.parametrize("algorithm", WHOLE, ids=by_name)
async def test_c41_the_message_itself_is_sent_with_its_checksum(
    provider: GcpProvider, emulator: GcpEmulator, algorithm: Algorithm
) -> None:
    key = await make(provider, algorithm.name)
    await provider.sign(key.uri, algorithm, b"header.payload", timeout=SECONDS)
    sent = emulator.requests[-1]
    assert (sent.operation, sent.digest, sent.data_length, sent.has_crc) == ("AsymmetricSign", "", 14, True)


@pytest.mark.parametrize("algorithm", PREHASHED, ids=by_name)
async def test_c41_c46_a_digest_of_the_algorithms_own_hash_is_sent(
    provider: GcpProvider, emulator: GcpEmulator, algorithm: Algorithm
) -> None:
    key = await make(provider, algorithm.name)
    await provider.sign(key.uri, algorithm, b"header.payload", timeout=SECONDS)
    sent = emulator.requests[-1]
    expected = {"256": "sha256", "384": "sha384", "512": "sha512"}[algorithm.name.rstrip("K")[-3:]]
    assert (sent.digest, sent.data_length, sent.has_crc) == (expected, None, True)


async def test_c42_es256k_keys_are_only_in_hsms(provider: GcpProvider, emulator: GcpEmulator) -> None:
    with pytest.raises(ProviderUnsupportedError, match="only in HSMs"):
        await make(provider, "ES256K", protection=Protection.SOFTWARE)
    assert emulator.calls == {}
    assert (await make(provider, "ES256K")).protection is Protection.HSM


@pytest.mark.parametrize("level", [44, 65, 87])
async def test_c43_ml_dsa_keys_are_fetched_in_the_form_of_nist_and_sign_the_message(
    provider: GcpProvider, emulator: GcpEmulator, monkeypatch: pytest.MonkeyPatch, level: int
) -> None:
    name = f"ML-DSA-{level}"
    # As soon as the table has the algorithm, this tests that row.
    algorithm = ALGORITHMS.get(name) or Algorithm(name, KEY_KINDS["Ed25519"])
    monkeypatch.setitem(algorithms._JWS_NAMES, f"PQ_SIGN_ML_DSA_{level}", frozenset({name}))
    key = await provider.create(KeySpec(algorithm=algorithm), timeout=SECONDS)
    assert key.algorithms == {name}
    raw = await provider.sign(key.uri, algorithm, b"header.payload", timeout=SECONDS)
    public: Any = load_der_public_key(key.public_key or b"")
    public.verify(raw.value, b"header.payload")
    assert emulator.requests[-1].data_length == 14


@pytest.mark.parametrize("size", [4095, 4096, 4097, 8192, 70_000])
async def test_c45_a_digest_has_no_limit(provider: GcpProvider, size: int) -> None:
    key = await make(provider)
    message = b"e" * size
    assert accepted(key, ES256, message, await provider.sign(key.uri, ES256, message, timeout=SECONDS))


@pytest.mark.parametrize("name", ["EdDSA", "HS256"])
async def test_c45_a_message_over_64_kib_is_refused_without_a_call(
    provider: GcpProvider, emulator: GcpEmulator, name: str
) -> None:
    key = await make(provider, name)
    await provider.sign(key.uri, ALGORITHMS[name], b"e" * 65536, timeout=SECONDS)
    emulator.reset_calls()
    with pytest.raises(MessageTooLargeError) as refused:
        await provider.sign(key.uri, ALGORITHMS[name], b"e" * 65537, timeout=SECONDS)
    assert refused.value.metadata == {"size": "65537", "limit": "65536"}
    assert emulator.calls == {}


async def test_c56_a_signature_is_one_call_and_pyjwt_accepts_it(provider: GcpProvider, emulator: GcpEmulator) -> None:
    key = await make(provider)
    emulator.reset_calls()
    raw = await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)
    theirs = jwt.get_algorithm_by_name("ES256")
    public = load_der_public_key(key.public_key or b"")
    assert theirs.verify(b"a.b", public, normalise(raw.value, raw.encoding, ES256))
    assert emulator.calls == {"AsymmetricSign": 1}


@pytest.mark.parametrize(("name", "hashed"), [("HS256", "sha256"), ("HS384", "sha384"), ("HS512", "sha512")])
async def test_hmac_keys_have_no_public_half_and_make_codes(
    provider: GcpProvider, emulator: GcpEmulator, name: str, hashed: str
) -> None:
    key = await make(provider, name)
    assert key.public_key is None
    assert key.algorithms == {name}
    raw = await provider.sign(key.uri, ALGORITHMS[name], b"a.b", timeout=SECONDS)
    assert len(raw.value) == hashlib.new(hashed).digest_size
    assert (emulator.requests[-1].operation, emulator.requests[-1].has_crc) == ("MacSign", True)


@pytest.mark.parametrize(
    ("name", "bits", "problem"),
    [("RS512", 2048, "4096 bits, not with 2048"), ("PS512", 3072, "4096"), ("RS256", 2056, "2048, 3072, 4096")],
)
async def test_rsa_sizes_that_google_lacks_are_refused_before_a_key_is_created(
    provider: GcpProvider, emulator: GcpEmulator, name: str, bits: int, problem: str
) -> None:
    with pytest.raises(ProviderUnsupportedError, match=problem):
        await make(provider, name, rsa_bits=bits)
    assert emulator.calls == {}


async def test_rsa_sizes_that_google_has_are_created(provider: GcpProvider) -> None:
    for bits in (2048, 3072, 4096):
        key = await make(provider, "RS256", rsa_bits=bits)
        assert jwk.load_public_key(key.public_key or b"").key_size == bits  # type: ignore[union-attr]


def test_the_table_names_algorithms_of_the_core_or_ml_dsa() -> None:
    assert {n for n in KMS_ALGORITHMS if not n.startswith("ML-DSA-")} <= ALGORITHMS.keys()
