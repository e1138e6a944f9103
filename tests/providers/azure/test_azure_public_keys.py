from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc.jwk import KeySet

from providers.azure.azure_support import make
from sealwright.errors import ProviderUnavailableError, ProviderUnsupportedError
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.jose.jwk import jwk_set, load_public_key, to_jwk
from sealwright.provider import Protection
from sealwright_providers.azure.provider import AzureProvider
from sealwright_providers.azure.public_keys import algorithms, protection, public_key

OPERATIONS = ["sign", "verify", "wrapKey", "unwrapKey", "encrypt", "decrypt"]


def encode(value: int, size: int = 0) -> str:
    raw = value.to_bytes(size or (value.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def azure_jwk(private: ec.EllipticCurvePrivateKey, kty: str, crv: str, size: int) -> dict[str, Any]:
    """Return a key as Key Vault describes it."""
    point = private.public_key().public_numbers()
    return {
        "kid": "https://v.vault.azure.net/keys/jwt/" + "1" * 32,
        "kty": kty,
        "crv": crv,
        "x": encode(point.x, size),
        "y": encode(point.y, size),
        "key_ops": OPERATIONS,
    }


def published(jwk: dict[str, Any], algorithm: str) -> dict[str, str]:
    """Return the JWK that Sealwright publishes for a key of Key Vault."""
    return to_jwk(load_public_key(public_key(jwk) or b""), ALGORITHMS[algorithm]).as_dict()


@pytest.mark.parametrize("kty", ["EC", "EC-HSM"])
def test_c18_the_published_type_of_an_hsm_key_is_that_of_jose(kty: str) -> None:
    jwk = azure_jwk(ec.generate_private_key(ec.SECP256R1()), kty, "P-256", 32)
    assert published(jwk, "ES256")["kty"] == "EC"
    assert protection(jwk) is (Protection.HSM if kty == "EC-HSM" else Protection.SOFTWARE)


@pytest.mark.parametrize("kty", ["RSA", "RSA-HSM"])
def test_c18_the_same_for_rsa(kty: str) -> None:
    numbers = rsa.generate_private_key(65537, 2048).public_key().public_numbers()
    # With a leading zero byte, which a JWK must not have.
    jwk = {"kty": kty, "n": encode(numbers.n, 257), "e": encode(numbers.e), "key_ops": OPERATIONS}
    found = published(jwk, "PS256")
    assert (found["kty"], found["n"], found["e"]) == ("RSA", encode(numbers.n), "AQAB")
    assert algorithms(jwk) == {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}


@pytest.mark.parametrize("kty", ["EC", "EC-HSM"])
def test_c19_azures_name_of_the_curve_is_published_as_secp256k1(kty: str) -> None:
    jwk = azure_jwk(ec.generate_private_key(ec.SECP256K1()), kty, "P-256K", 32)
    found = published(jwk, "ES256K")
    assert (found["crv"], found["alg"]) == ("secp256k1", "ES256K")
    assert algorithms(jwk) == {"ES256K"}
    loaded = load_public_key(public_key(jwk) or b"")
    text = jwk_set([to_jwk(loaded, ALGORITHMS["ES256K"])])
    assert len(KeySet.import_key_set(json.loads(text)).keys) == 1


def test_c20_nothing_of_azures_jwk_but_the_numbers_is_published() -> None:
    jwk = azure_jwk(ec.generate_private_key(ec.SECP256R1()), "EC-HSM", "P-256", 32)
    found = published(jwk, "ES256")
    assert set(found) == {"kty", "crv", "x", "y", "alg", "use", "kid"}
    assert found["use"] == "sig"
    assert "azure" not in str(found)


async def test_c18_c19_c20_the_same_for_keys_of_a_managed_hsm(azure_hsm: AzureProvider) -> None:
    for algorithm, kty in (("ES256K", "EC"), ("RS256", "RSA")):
        key = await make(azure_hsm, algorithm)
        assert key.protection is Protection.HSM
        found = to_jwk(load_public_key(key.public_key or b""), ALGORITHMS[algorithm]).as_dict()
        assert found["kty"] == kty
        assert "key_ops" not in found
        assert found.get("crv") in {None, "secp256k1"}


def test_coordinates_without_their_leading_zeros_give_the_same_key() -> None:
    keys = (ec.derive_private_key(number, ec.SECP256R1()) for number in range(1, 2000))
    private = next(key for key in keys if key.public_key().public_numbers().x < 1 << 248)
    full = azure_jwk(private, "EC", "P-256", 32)
    point = private.public_key().public_numbers()
    bare = full | {"x": encode(point.x), "y": encode(point.y)}
    assert public_key(full) == public_key(bare)
    assert full != bare


def test_a_key_that_may_not_sign_has_no_algorithms_and_a_secret_no_public_half() -> None:
    jwk = azure_jwk(ec.generate_private_key(ec.SECP256R1()), "EC", "P-256", 32)
    assert algorithms(jwk | {"key_ops": ["verify"]}) == frozenset()
    assert algorithms({k: v for k, v in jwk.items() if k != "key_ops"}) == frozenset()
    secret = {"kty": "oct-HSM", "key_ops": ["sign"]}
    assert public_key(secret) is None
    assert algorithms(secret) == {"HS256", "HS384", "HS512"}


@pytest.mark.parametrize("jwk", [{"kty": "EC", "crv": "SECP256K1"}, {"kty": "EC", "crv": "P-224"}, {"kty": "AKP"}, {}])
def test_a_type_or_curve_that_sealwright_does_not_know_is_unsupported(jwk: dict[str, Any]) -> None:
    with pytest.raises(ProviderUnsupportedError):
        public_key(jwk)


@pytest.mark.parametrize(
    "members", [{"x": "AA", "y": "AA"}, {"x": None}, {"x": "!", "y": "!"}, {"x": "A" * 100}, {"y": "€"}]
)
def test_a_broken_key_is_an_outage(members: dict[str, Any]) -> None:
    jwk = azure_jwk(ec.generate_private_key(ec.SECP256R1()), "EC", "P-256", 32)
    with pytest.raises(ProviderUnavailableError):
        public_key(jwk | members)
