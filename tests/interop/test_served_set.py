"""What is served, read as the strictest of its readers would."""

from __future__ import annotations

import json
import subprocess

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from interop.forging import decode
from interop.interop_support import ALGORITHMS, ISSUERS, RSA_BITS, Realm, Tokens, header_of, signature_of
from support.processes import BIN

NGINX_BUFFER = 4096
MEMBERS = {"RSA": {"n", "e"}, "EC": {"crv", "x", "y"}}
CURVES = {"ES256": ("P-256", 32), "ES384": ("P-384", 48), "ES512": ("P-521", 66)}
HASHES: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


@pytest.mark.parametrize("issuer", ISSUERS)
def test_c139_every_member_is_one_that_readers_expect(issuer: str, realm: Realm) -> None:
    document = json.loads(realm.fetch(issuer))
    assert set(document) == {"keys"}
    for key in document["keys"]:
        assert set(key) == {"kty", "use", "alg", "kid"} | MEMBERS[key["kty"]]
        assert all(isinstance(v, str) and v for v in key.values())
        assert key["use"] == "sig"
        assert key["kty"] == ("EC" if key["alg"] in CURVES else "RSA")
        assert key.get("crv") == CURVES.get(key["alg"], (None,))[0]
    assert {k["alg"] for k in document["keys"]} == set(ISSUERS[issuer])


def test_c26_no_two_keys_of_a_service_share_a_kid(realm: Realm) -> None:
    kids = [k["kid"] for issuer in ISSUERS for k in realm.published(issuer)]
    assert len(set(kids)) == len(kids)


@pytest.mark.parametrize("issuer", ISSUERS)
def test_c10_c11_c14_every_number_has_its_full_width_and_no_more(issuer: str, realm: Realm) -> None:
    for key in realm.published(issuer):
        if key["kty"] == "RSA":
            modulus = decode(key["n"])
            assert len(modulus) == RSA_BITS[issuer] // 8
            assert modulus[0] >= 0x80
            assert key["e"] == "AQAB"
        else:
            width = CURVES[key["alg"]][1]
            assert {len(decode(key[c])) for c in ("x", "y")} == {width}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_c22_c79_the_header_is_alg_kid_and_typ_to_the_byte(algorithm: str, realm: Realm, tokens: Tokens) -> None:
    token = tokens.good[algorithm]
    kid = header_of(token)["kid"]
    assert decode(token.split(".")[0]) == f'{{"alg":"{algorithm}","kid":"{kid}","typ":"JWT"}}'.encode()
    assert [k["alg"] for k in realm.published() if k["kid"] == kid] == [algorithm]


@pytest.mark.parametrize("algorithm", ["PS256", "PS384", "PS512"])
def test_c30_the_salt_is_as_long_as_the_hash(algorithm: str, realm: Realm, tokens: Tokens) -> None:
    token = tokens.good[algorithm]
    digest = HASHES[algorithm[2:]]
    key = next(k for k in realm.published() if k["kid"] == header_of(token)["kid"])
    numbers = rsa.RSAPublicNumbers(int.from_bytes(decode(key["e"])), int.from_bytes(decode(key["n"])))
    accepted = []
    for length in (0, 20, 32, 48, 64, padding.calculate_max_pss_salt_length(numbers.public_key(), digest)):
        pss = padding.PSS(padding.MGF1(digest), length)
        try:
            numbers.public_key().verify(signature_of(token), token.rpartition(".")[0].encode(), pss, digest)
        except InvalidSignature:
            continue
        accepted.append(length)
    assert accepted == [digest.digest_size]


@pytest.mark.parametrize("algorithm", CURVES)
def test_c03_an_ecdsa_signature_has_one_length(algorithm: str, tokens: Tokens) -> None:
    width = CURVES[algorithm][1]
    for token in (tokens.good[algorithm], tokens.narrow[algorithm], tokens.refused["expired"][algorithm]):
        assert len(signature_of(token)) == 2 * width


def test_a_set_too_large_for_nginx_is_warned_of_before_it_is_served(realm: Realm) -> None:
    sizes = [len(realm.fetch(issuer)) for issuer in ISSUERS]
    assert [size > NGINX_BUFFER for size in sizes] == [True, False, False, False]
    command = [str(BIN / "sealwright"), "config", "check", realm.config, "--output", "json"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=30)  # noqa: S603 - our own program
    warned = [w.split(":")[0] for w in json.loads(done.stdout)["warnings"] if "nginx" in w]
    assert "issuers[0]" in warned
    assert not {"issuers[1]", "issuers[2]"} & set(warned)
