"""C117 and C40: public keys in the forms that modules return."""

from __future__ import annotations

import itertools

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sealwright.jose import base64url
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.jose.jwk import KeyFormatError, load_public_key, thumbprint, to_jwk
from sealwright.provider import KEY_KINDS
from sealwright_providers.pkcs11.mechanisms import CURVES as GENERATED
from sealwright_providers.pkcs11.mechanisms import curve_of
from sealwright_providers.pkcs11.public_keys import curve_key, rsa_key, spki

CURVES = {
    "P-256": (ec.SECP256R1(), 65, 67, "0441"),
    "P-384": (ec.SECP384R1(), 97, 99, "0461"),
    "P-521": (ec.SECP521R1(), 133, 136, "048185"),
    "secp256k1": (ec.SECP256K1(), 65, 67, "0441"),
}
# RFC 8037 A.2 and A.3
RFC8037_X = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
RFC8037_KID = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def point_of(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


@pytest.mark.parametrize("crv", CURVES)
def test_c117_wrapped_and_raw_points_are_one_key(crv: str) -> None:
    curve, raw_size, wrapped_size, header = CURVES[crv]
    key = ec.derive_private_key(7, curve).public_key()
    raw = point_of(key)
    wrapped = bytes.fromhex(header) + raw
    assert (len(raw), len(wrapped)) == (raw_size, wrapped_size)
    assert curve_key(crv, raw) == curve_key(crv, wrapped) == key


def test_c117_a_raw_point_that_looks_wrapped_is_not_unwrapped() -> None:
    points = (point_of(ec.derive_private_key(scalar, ec.SECP256R1()).public_key()) for scalar in itertools.count(2))
    raw = next(point for point in points if point[1] == 0x41)
    assert len(raw) == 65
    assert raw[:2] == b"\x04\x41"
    assert curve_key("P-256", raw) == ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw)
    assert curve_key("P-256", b"\x04\x41" + raw) == curve_key("P-256", raw)


@pytest.mark.parametrize("crv", CURVES)
def test_c117_points_in_other_forms_are_refused(crv: str) -> None:
    curve, raw_size, _, header = CURVES[crv]
    key = ec.derive_private_key(7, curve).public_key()
    raw = point_of(key)
    compressed = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    off = raw[:-1] + bytes((raw[-1] ^ 1,))
    wrapped = bytes.fromhex(header) + raw
    for value in (b"", raw[:-1], raw + b"\0", wrapped[:-1], wrapped + b"\0", compressed, off, b"\x03" + wrapped[1:]):
        with pytest.raises(KeyFormatError):
            curve_key(crv, value)
    with pytest.raises(KeyFormatError):
        curve_key(crv, b"\x02" + bytes(raw_size - 1))


def test_c40_ed25519_keys_are_32_bytes_in_any_wrapping() -> None:
    raw = base64url.decode(RFC8037_X)
    for form in (raw, b"\x04\x20" + raw, b"\x03\x21\x00" + raw, bytes.fromhex("302a300506032b6570032100") + raw):
        key = curve_key("Ed25519", form)
        assert dict(to_jwk(key, ALGORITHMS["EdDSA"]).members)["x"] == RFC8037_X
        assert thumbprint(key) == RFC8037_KID
    for bad in (raw[:-1], raw + b"\0", b"\x04\x1f" + raw, b"\x05\x20" + raw, b"\x03\x21\x01" + raw):
        with pytest.raises(KeyFormatError):
            curve_key("Ed25519", bad)


def test_c40_a_key_that_begins_like_a_wrapping_is_not_unwrapped() -> None:
    raw = b"\x04\x20" + bytes(30)
    assert curve_key("Ed25519", raw).public_bytes(Encoding.Raw, PublicFormat.Raw) == raw


def test_curves_are_known_by_their_oid() -> None:
    for crv in (*CURVES, "Ed25519"):
        assert curve_of(GENERATED[crv].ec_params) == crv
    assert all(name in KEY_KINDS for name in GENERATED)
    assert curve_of(bytes.fromhex("130c656477617264733235353139")) == "Ed25519"
    assert curve_of(bytes.fromhex("06052b81040021")) is None  # P-224
    with pytest.raises(KeyFormatError):
        curve_key("", b"\x04" + bytes(56))


def test_rsa_keys_are_big_endian() -> None:
    key = rsa.generate_private_key(65537, 2048).public_key()
    modulus = key.public_numbers().n.to_bytes(256, "big")
    for n in (modulus, b"\0" + modulus):
        assert rsa_key(n, b"\1\0\1") == key
    assert load_public_key(spki(rsa_key(modulus, b"\0\1\0\1"))) == key
    for n, e in ((b"", b"\1\0\1"), (modulus, b""), (modulus, b"\2")):
        with pytest.raises(KeyFormatError):
            rsa_key(n, e)
