from __future__ import annotations

import json
import re
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import KeySet
from jwcrypto.jwk import JWKSet

from sealwright.jose.algorithms import ALGORITHMS, Algorithm
from sealwright.jose.jwk import Jwk, KeyFormatError, jwk_set, load_public_key, thumbprint, to_jwk
from sealwright.jose.token import compact, header_segment, signing_input
from unit.jose import rfc_vectors as rfc
from unit.jose.keys import SIGNING, decode, edwards, elliptic, key_for, published, rsa_key, sign, spki

ES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "secp256k1": "ES256K"}
PUBLIC_MEMBERS = {
    "RSA": {"e", "kty", "n", "use", "alg", "kid"},
    "EC": {"crv", "kty", "x", "y", "use", "alg", "kid"},
    "OKP": {"crv", "kty", "x", "use", "alg", "kid"},
    "AKP": {"kty", "alg", "pub", "use", "kid"},
}
UNREAD = {"Ed25519", "ML-DSA-44", "ML-DSA-65", "ML-DSA-87"}
"""PyJWT 2.15 drops a JWK with such an `alg` without an error, and joserfc 1.8 one with `kty` AKP."""


def jwk_of(curve: str, scalar: int) -> Jwk:
    return to_jwk(elliptic(curve, scalar).public_key(), ALGORITHMS[ES[curve]])


def one_of_each(*, common: bool) -> list[Jwk]:
    """Return a different key for each algorithm."""
    chosen = [a for a in SIGNING.values() if a.common or not common]
    return [to_jwk(key_for(a, which).public_key(), a) for which, a in enumerate(chosen)]


def test_c10_x_keeps_its_leading_zero() -> None:
    assert jwk_of("P-256", 379).as_dict()["x"] == "AFVDiUrz0A7X10Cr29dclrBod7eH219w7qeLkKjXwAo"


def test_c11_y_keeps_its_leading_zero() -> None:
    assert jwk_of("P-256", 43).as_dict()["y"] == "ADzMwKZGDgrjKKTZfTx7YdhvxiicGJ8lJREMRBuwfpc"


@pytest.mark.parametrize(("curve", "scalar"), [("P-384", 176), ("secp256k1", 122)])
def test_c11_other_curves_keep_a_leading_zero(curve: str, scalar: int) -> None:
    jwk = jwk_of(curve, scalar).as_dict()
    size = {"P-384": 48, "secp256k1": 32}[curve]
    coordinates = decode(jwk["x"]), decode(jwk["y"])
    assert [len(c) for c in coordinates] == [size, size]
    assert 0 in {c[0] for c in coordinates}


@pytest.mark.parametrize(("curve", "length"), [("P-256", 43), ("P-384", 64), ("P-521", 88), ("secp256k1", 43)])
def test_c10_c11_every_coordinate_has_the_width_of_its_curve(curve: str, length: int) -> None:
    for scalar in range(1, 301):
        jwk = jwk_of(curve, scalar).as_dict()
        assert (len(jwk["x"]), len(jwk["y"])) == (length, length)


@pytest.mark.parametrize(
    ("curve", "scalar", "kid"),
    [
        ("P-256", 379, "7Yxe6c_3bAa6kiaK1G-BZmi9EeNsUmlcbdnrtLeuK4E"),
        ("P-256", 43, "WZsjbh58q8kl1WsGShqtiycImZtCgGbukDn4RAacMig"),
        ("P-521", 2, "e-_85PKDQjKiSu4v0RbUQ1uS3YICutuB3czPg9ymCic"),
    ],
)
def test_c13_the_thumbprint_hashes_coordinates_of_full_width(curve: str, scalar: int, kid: str) -> None:
    assert jwk_of(curve, scalar).kid == kid
    assert thumbprint(elliptic(curve, scalar).public_key()) == kid


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_c14_the_modulus_has_no_sign_byte(bits: int) -> None:
    key = load_public_key(spki(rsa.RSAPublicNumbers(65537, (1 << bits) - 159).public_key()))
    n = decode(to_jwk(key, ALGORITHMS["RS256"]).as_dict()["n"])
    assert len(n) == bits // 8
    assert n[0] >= 0x80


def test_c16_members_are_base64url_without_padding() -> None:
    seen = ""
    for jwk in published(*one_of_each(common=False)):
        for name in {"n", "e", "x", "y", "pub"} & jwk.keys():
            assert re.fullmatch(r"[A-Za-z0-9_-]+", jwk[name])
            seen += jwk[name]
    assert {"-", "_"} <= set(seen)


def test_c17_a_published_key_has_public_members_only() -> None:
    for jwk in published(*one_of_each(common=False)):
        assert jwk.keys() == PUBLIC_MEMBERS[jwk["kty"]]


def test_c17_a_private_key_cannot_be_published() -> None:
    private: Any = elliptic("P-256", 7)
    with pytest.raises(KeyFormatError):
        to_jwk(private, ALGORITHMS["ES256"])


def test_c19_the_curve_of_es256k_is_named_secp256k1() -> None:
    jwk = jwk_of("secp256k1", 7).as_dict()
    assert (jwk["kty"], jwk["crv"], jwk["alg"]) == ("EC", "secp256k1", "ES256K")
    assert len(KeySet.import_key_set(_set([jwk])).keys) == 1


def test_c22_c139_every_key_says_its_algorithm_and_use_and_no_member_is_empty() -> None:
    jwks = one_of_each(common=True)
    by_kid = {j.kid: j for j in jwks}
    for jwk in published(*jwks):
        assert jwk["alg"] == by_kid[jwk["kid"]].alg
        assert jwk["use"] == "sig"
        assert all(isinstance(value, str) and value for value in jwk.values())
        assert jwk["kty"] == "RSA" or (jwk["kty"] == "EC" and jwk["crv"] in {"P-256", "P-384"})


def test_c22_the_set_is_an_object_with_keys_alone() -> None:
    assert json.loads(jwk_set([])) == {"keys": []}
    assert json.loads(jwk_set([jwk_of("P-256", 7)])).keys() == {"keys"}


@pytest.mark.parametrize("algorithm", SIGNING.values(), ids=list(SIGNING))
def test_c24_a_kid_is_opaque(algorithm: Algorithm) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", to_jwk(key_for(algorithm).public_key(), algorithm).kid)


def test_c25_a_key_that_is_held_in_two_places_has_one_kid() -> None:
    spki_here, spki_there = (spki(elliptic("P-256", 379).public_key()) for _ in range(2))
    assert thumbprint(load_public_key(spki_here)) == thumbprint(load_public_key(spki_there))


def test_c26_a_set_does_not_list_a_kid_twice() -> None:
    key = rsa_key(2048).public_key()
    for second in ("RS256", "RS384"):
        with pytest.raises(ValueError, match="kid"):
            jwk_set([to_jwk(key, ALGORITHMS["RS256"]), to_jwk(key, ALGORITHMS[second])])


def test_c27_a_kid_depends_on_the_public_key_alone() -> None:
    key = elliptic("P-256", 43).public_key()
    point = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    imported = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    assert thumbprint(imported) == thumbprint(load_public_key(spki(key))) == jwk_of("P-256", 43).kid


@given(st.permutations(range(1, 9)))
def test_c27_a_set_is_the_same_bytes_in_whatever_order_its_keys_come(order: list[int]) -> None:
    assert jwk_set(jwk_of("P-256", d) for d in order) == jwk_set(jwk_of("P-256", d) for d in range(1, 9))


@pytest.mark.parametrize("name", ["EdDSA", "Ed25519"])
def test_c39_the_configured_name_of_ed25519_is_used_in_the_header_and_in_the_set(name: str) -> None:
    algorithm, key = ALGORITHMS[name], edwards()
    jwk = to_jwk(key.public_key(), algorithm)
    signed = signing_input(header_segment(alg=name, kid=jwk.kid, typ="JWT"), b"{}")
    token = compact(signed, sign(key, algorithm, signed))
    assert jwk.as_dict()["alg"] == name
    if name == "EdDSA":
        keys = jwt.PyJWKSet.from_dict(_set([jwk.as_dict()])).keys
        assert jwt.decode(token, keys[0], algorithms=["EdDSA"]) == {}
        assert jwt.get_unverified_header(token)["alg"] == name
    else:
        read = jws.deserialize_compact(token, KeySet.import_key_set(_set([jwk.as_dict()])), algorithms=["Ed25519"])
        assert read.headers()["alg"] == name


def test_c40_the_ed25519_key_of_rfc_8037_is_read_from_subject_public_key_info() -> None:
    raw = decode(rfc.RFC8037_A2_KEY["x"])
    jwk = to_jwk(load_public_key(bytes.fromhex("302a300506032b6570032100") + raw), ALGORITHMS["EdDSA"])
    assert jwk.as_dict()["x"] == rfc.RFC8037_A2_KEY["x"]
    assert jwk.kid == rfc.RFC8037_A3_THUMBPRINT


def test_c40_key_bytes_that_look_like_an_octet_string_are_not_unwrapped() -> None:
    raw = bytes.fromhex("0420") + bytes(range(30))
    key = ed25519.Ed25519PublicKey.from_public_bytes(raw)
    assert decode(to_jwk(load_public_key(spki(key)), ALGORITHMS["EdDSA"]).as_dict()["x"]) == raw


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30\x00",
        decode(rfc.RFC8037_A2_KEY["x"]),
        b"\x04\x20" + decode(rfc.RFC8037_A2_KEY["x"]),
        spki(elliptic("P-256", 7).public_key())[:-1],
        spki(elliptic("P-256", 7).public_key()) + b"\0",
        elliptic("P-256", 7).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ],
    ids=["empty", "empty sequence", "bare", "octet string", "cut off", "trailing byte", "PEM"],
)
def test_c40_what_is_not_subject_public_key_info_is_refused(data: bytes) -> None:
    with pytest.raises(KeyFormatError):
        load_public_key(data)


def test_a_point_off_the_curve_is_refused() -> None:
    der = bytearray(spki(elliptic("P-256", 7).public_key()))
    der[-1] ^= 1
    with pytest.raises(KeyFormatError):
        load_public_key(bytes(der))


@pytest.mark.parametrize("common", [True, False], ids=["default", "all but those that they drop"])
def test_c140_three_libraries_read_as_many_keys_as_are_published(*, common: bool) -> None:
    jwks = [j for j in one_of_each(common=common) if j.alg not in UNREAD]
    document = jwk_set(jwks).decode()
    kids = {j.kid for j in jwks}
    assert {k.key_id for k in jwt.PyJWKSet.from_json(document).keys} == kids
    assert {k.kid for k in KeySet.import_key_set(json.loads(document)).keys} == kids
    assert {k["kid"] for k in JWKSet.from_json(document)["keys"]} == kids


def test_c140_the_thumbprint_is_the_one_that_another_library_computes() -> None:
    for jwk in published(*one_of_each(common=False)):
        (other,) = JWKSet.from_json(json.dumps(_set([jwk])))["keys"]
        assert other.thumbprint() == jwk["kid"]


def _set(jwks: list[dict[str, str]]) -> Any:
    return {"keys": jwks}


@pytest.mark.parametrize(
    ("exponent", "readable"), [(65537, True), (2**31 - 1, True), (2**31 + 1, False), (2**32 + 1, False)]
)
def test_f19_an_rsa_exponent_that_go_cannot_read_is_refused(exponent: int, *, readable: bool) -> None:
    key = rsa.RSAPublicNumbers(exponent, rsa_key(2048).public_key().public_numbers().n).public_key()
    if readable:
        assert load_public_key(spki(key)) == key
        assert to_jwk(key, ALGORITHMS["RS256"]).alg == "RS256"
        return
    for refused in (
        lambda: load_public_key(spki(key)),
        lambda: to_jwk(key, ALGORITHMS["PS512"]),
        lambda: thumbprint(key),
    ):
        with pytest.raises(KeyFormatError, match="31 bits"):
            refused()


@pytest.mark.parametrize("rsa_bits", [2048, 4096])
def test_the_estimated_size_of_a_jwk_is_near_its_real_one(rsa_bits: int) -> None:
    for algorithm in SIGNING.values():
        key = rsa_key(rsa_bits) if algorithm.takes_rsa_bits else key_for(algorithm)
        size = len(json.dumps(published(to_jwk(key.public_key(), algorithm))[0], separators=(",", ":")))
        assert size <= algorithm.jwk_size(rsa_bits) <= size + 40
    assert ALGORITHMS["HS256"].jwk_size(rsa_bits) == 0
