from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from sealwright.jose.algorithms import ALGORITHMS, Algorithm, PublicKey
from sealwright.jose.jwk import KeyFormatError, load_public_key, to_jwk
from sealwright.jose.signatures import verify
from unit.jose.keys import CURVES, ML_DSA, SIGNING, edwards, elliptic, key_for, ml_dsa, rsa_key, sign, spki

KEYS: dict[str, PublicKey] = {
    **{crv: elliptic(crv, 7).public_key() for crv in CURVES},
    "RSA": rsa_key(2048).public_key(),
    "Ed25519": edwards().public_key(),
    **{name: ml_dsa(name).public_key() for name in ML_DSA},
}
FITTING = {
    "RSA": {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"},
    "P-256": {"ES256"},
    "P-384": {"ES384"},
    "P-521": {"ES512"},
    "secp256k1": {"ES256K"},
    "Ed25519": {"EdDSA", "Ed25519"},
    **{name: {name} for name in ML_DSA},
}


@pytest.mark.parametrize("name", ["ES256", "ES384", "ES512", "ES256K"])
@pytest.mark.parametrize("crv", list(CURVES))
def test_c32_the_algorithm_follows_the_curve(crv: str, name: str) -> None:
    key = KEYS[crv]
    if name in FITTING[crv]:
        assert to_jwk(key, ALGORITHMS[name]).as_dict()["crv"] == crv
        return
    with pytest.raises(KeyFormatError, match=name):
        to_jwk(key, ALGORITHMS[name])


@pytest.mark.parametrize("kind", list(KEYS))
def test_c32_c33_a_key_takes_its_own_algorithms_alone(kind: str) -> None:
    assert {a.name for a in ALGORITHMS.values() if a.fits(KEYS[kind])} == FITTING[kind]


@pytest.mark.parametrize("name", ["HS1", "none", "None", "NONE", "", "ES256 ", "es256", "ES256\0", "RS1", "PS257"])
def test_c33_names_outside_the_table_are_no_algorithms(name: str) -> None:
    assert name not in ALGORITHMS


@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521", "secp256k1", "Ed25519"])
def test_c33_rs256_is_refused_for_a_key_that_is_not_rsa(kind: str) -> None:
    with pytest.raises(KeyFormatError):
        to_jwk(KEYS[kind], ALGORITHMS["RS256"])


@pytest.mark.parametrize("signer", SIGNING.values(), ids=list(SIGNING))
def test_c33_a_signature_verifies_under_its_own_algorithm_alone(signer: Algorithm) -> None:
    key = key_for(signer)
    signature = sign(key, signer, b"m")
    sound = {a.name for a in ALGORITHMS.values() if verify(key.public_key(), a, b"m", signature)}
    assert sound == ({"EdDSA", "Ed25519"} if signer.name in {"EdDSA", "Ed25519"} else {signer.name})


@pytest.mark.parametrize("bits", [1024, 2047])
def test_an_rsa_key_below_2048_bits_fits_no_algorithm_and_is_not_loaded(bits: int) -> None:
    key = rsa.RSAPublicNumbers(65537, (1 << (bits - 1)) + 1).public_key()
    assert not any(a.fits(key) for a in ALGORITHMS.values())
    with pytest.raises(KeyFormatError):
        load_public_key(spki(key))


def test_a_curve_that_no_algorithm_uses_is_not_loaded() -> None:
    der = spki(ec.derive_private_key(7, ec.SECP224R1()).public_key())
    with pytest.raises(KeyFormatError):
        load_public_key(der)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ES256", hashlib.sha256), ("PS384", hashlib.sha384), ("RS512", hashlib.sha512), ("ES256K", hashlib.sha256)],
)
def test_the_digest_is_that_of_the_algorithms_hash(name: str, expected: type) -> None:
    assert ALGORITHMS[name].digest(b"message") == expected(b"message").digest()


@pytest.mark.parametrize("name", ["EdDSA", "Ed25519", *ML_DSA])
def test_what_signs_the_message_itself_refuses_to_hash_beforehand(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        ALGORITHMS[name].digest(b"message")


@pytest.mark.parametrize("algorithm", SIGNING.values(), ids=list(SIGNING))
def test_the_signature_size_is_what_signatures_have(algorithm: Algorithm) -> None:
    key = key_for(algorithm)
    assert algorithm.signature_size(key.public_key()) == len(sign(key, algorithm, b"m"))


@pytest.mark.parametrize(("bits", "size"), [(2048, 256), (2049, 257), (3072, 384), (4096, 512)])
def test_an_rsa_signature_is_as_long_as_the_modulus(bits: int, size: int) -> None:
    key = rsa.RSAPublicNumbers(65537, (1 << (bits - 1)) + 1).public_key()
    assert ALGORITHMS["RS256"].signature_size(key) == size


def test_the_table_is_keyed_by_the_names_and_cannot_be_changed() -> None:
    assert {name: a.name for name, a in ALGORITHMS.items()} == {name: name for name in ALGORITHMS}
    with pytest.raises(TypeError):
        ALGORITHMS["none"] = ALGORITHMS["ES256"]  # type: ignore[index]


def test_an_x25519_key_is_not_loaded() -> None:
    der = bytes.fromhex("302a300506032b656e032100") + bytes(31) + b"\x09"
    with pytest.raises(KeyFormatError):
        load_public_key(der)
    assert isinstance(load_public_key(spki(KEYS["Ed25519"])), ed25519.Ed25519PublicKey)
