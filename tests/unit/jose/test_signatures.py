from __future__ import annotations

from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey

from sealwright.jose.algorithms import ALGORITHMS, Algorithm
from sealwright.jose.signatures import SignatureEncoding, SignatureFormatError, normalise, verify
from sealwright.jose.token import compact, header_segment, signing_input
from unit.jose.keys import SIGNING, edwards, elliptic, key_for, rsa_key, sign

DER, CONCATENATED, OPAQUE = SignatureEncoding.DER, SignatureEncoding.CONCATENATED, SignatureEncoding.OPAQUE
ES256, ES384, ES512 = (ALGORITHMS[name] for name in ("ES256", "ES384", "ES512"))
N256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ECDSA = [a for a in ALGORITHMS.values() if a.two_integers]


def test_c01_a_short_r_is_padded_on_the_left() -> None:
    der = bytes.fromhex("3026020101022100ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632550")
    expected = "00" * 31 + "01" + "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632550"
    assert normalise(der, DER, ES256).hex() == expected


@pytest.mark.parametrize(("name", "scalar", "count", "size"), [("ES256", 379, 2000, 64), ("ES512", 2, 500, 132)])
def test_c01_c03_every_signature_has_one_size_and_verifies_elsewhere(
    name: str, scalar: int, count: int, size: int
) -> None:
    algorithm = ALGORITHMS[name]
    private, scheme = _deterministic(algorithm, scalar)
    public: Any = ECKey.import_key(_jwk(algorithm, private.public_key()))
    header = header_segment(alg=name, kid="k", typ="JWT")
    for i in range(count):
        signed = signing_input(header, b"%d" % i)
        raw = normalise(private.sign(signed, scheme), DER, algorithm)
        assert len(raw) == size
        assert jws.deserialize_compact(compact(signed, raw), public, algorithms=[name]).payload == b"%d" % i


@pytest.mark.parametrize(
    ("name", "scalar", "message", "half", "zeros"),
    [
        ("ES256", 379, b"message 175", "r", 1),
        ("ES256", 379, b"message 529", "s", 1),
        ("ES512", 2, b"message 207", "r", 2),
        ("ES512", 2, b"message 6", "s", 2),
    ],
)
def test_c01_c03_a_real_signature_with_leading_zeros_verifies_elsewhere(
    name: str, scalar: int, message: bytes, half: str, zeros: int
) -> None:
    """Signatures according to RFC 6979 are the same in every run, so the messages that have such a signature are known."""
    algorithm = ALGORITHMS[name]
    private, scheme = _deterministic(algorithm, scalar)
    size = algorithm.kind.coordinate_size
    raw = normalise(private.sign(message, scheme), DER, algorithm)
    assert len(raw) == 2 * size
    assert {"r": raw[:size], "s": raw[size:]}[half].startswith(bytes(zeros))
    assert jwt.get_algorithm_by_name(name).verify(message, private.public_key(), raw)
    assert verify(private.public_key(), algorithm, message, raw)


def _deterministic(algorithm: Algorithm, scalar: int) -> tuple[ec.EllipticCurvePrivateKey, ec.ECDSA]:
    assert algorithm.hash is not None
    return elliptic(algorithm.kind.name, scalar), ec.ECDSA(algorithm.hash, deterministic_signing=True)


def _jwk(algorithm: Algorithm, key: ec.EllipticCurvePublicKey) -> Any:
    numbers = key.public_numbers()
    size = algorithm.kind.coordinate_size
    encode = jwt.utils.base64url_encode
    coordinates = {
        "x": encode(numbers.x.to_bytes(size, "big")).decode(),
        "y": encode(numbers.y.to_bytes(size, "big")).decode(),
    }
    return {"kty": "EC", "crv": algorithm.kind.name, **coordinates}


def test_c02_the_sign_byte_of_der_is_stripped_and_no_other() -> None:
    r, s = 0x7F << 240, 0x80 << 248
    der = bytes.fromhex("3044021f7f" + "00" * 30 + "02210080" + "00" * 31)
    raw = normalise(der, DER, ES256)
    assert raw.hex() == "007f" + "00" * 30 + "80" + "00" * 31
    assert encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")) == der
    assert decode_dss_signature(der) == (r, s)


def test_c03_es512_is_66_and_66_bytes() -> None:
    raw = normalise(bytes.fromhex("3006020101020101"), DER, ES512)
    assert raw.hex() == "00" * 65 + "01" + "00" * 65 + "01"
    token = compact(b"h.p", raw)
    assert len(token.rpartition(".")[2]) == 176


@pytest.mark.parametrize("name", ["ES256", "ES384", "ES512", "ES256K"])
def test_c07_equal_halves_that_are_too_short_are_padded(name: str) -> None:
    algorithm = ALGORITHMS[name]
    size = algorithm.kind.coordinate_size
    short = bytes([1] * (size - 1) + [2] * (size - 1))
    assert normalise(short, CONCATENATED, algorithm) == b"\0" + b"\1" * (size - 1) + b"\0" + b"\2" * (size - 1)


@pytest.mark.parametrize("size", [0, 1, 63, 65, 66, 71, 132])
def test_c07_what_is_not_two_halves_is_refused(size: int) -> None:
    with pytest.raises(SignatureFormatError):
        normalise(b"\1" * size, CONCATENATED, ES256)


def test_c07_der_from_a_token_that_should_answer_r_and_s_is_never_released() -> None:
    key = elliptic("P-256", 7)
    der = next(d for d in (key.sign(b"m", ec.ECDSA(hashes.SHA256())) for _ in range(1000)) if len(d) == 71)
    with pytest.raises(SignatureFormatError):
        normalise(der, CONCATENATED, ES256)


@pytest.mark.parametrize(("r", "s"), [(0, 1), (1, 0), (0, 0), (N256, 1), (1, N256), (N256, N256)])
def test_c08_impossible_values_do_not_verify(r: int, s: int) -> None:
    raw = normalise(encode_dss_signature(r, s), DER, ES256)
    assert not verify(elliptic("P-256", 7).public_key(), ES256, b"m", raw)


@pytest.mark.parametrize(
    "der",
    [
        bytes.fromhex("30060201ff020101"),
        bytes.fromhex("30060201010201ff"),
        encode_dss_signature(1 << 256, 1),
        encode_dss_signature(1, 1 << 256),
    ],
    ids=["r=-1", "s=-1", "r=2^256", "s=2^256"],
)
def test_c08_values_that_fit_no_curve_are_refused(der: bytes) -> None:
    with pytest.raises(SignatureFormatError):
        normalise(der, DER, ES256)


@pytest.mark.parametrize("algorithm", SIGNING.values(), ids=list(SIGNING))
def test_c08_the_signature_of_another_key_of_the_same_type_does_not_verify(algorithm: Algorithm) -> None:
    key = key_for(algorithm)
    signature = sign(key, algorithm, b"m")
    assert verify(key.public_key(), algorithm, b"m", signature)
    other = key_for(algorithm, 1).public_key()
    assert algorithm.signature_size(other) == len(signature)
    assert not verify(other, algorithm, b"m", signature)


@pytest.mark.parametrize("name", ["PS256", "PS384", "PS512"])
def test_c30_a_salt_of_the_hash_length_verifies_and_no_other_does(name: str) -> None:
    algorithm, key = ALGORITHMS[name], rsa_key(2048)
    assert algorithm.hash is not None
    size = algorithm.hash.digest_size
    assert size == {"PS256": 32, "PS384": 48, "PS512": 64}[name]
    for salt, sound in ((size, True), (padding.PSS.MAX_LENGTH, False), (size - 1, False), (0, False)):
        pss = padding.PSS(padding.MGF1(algorithm.hash), salt)
        assert verify(key.public_key(), algorithm, b"m", key.sign(b"m", pss, algorithm.hash)) is sound


def test_c30_the_mask_generation_uses_the_same_hash() -> None:
    key = rsa_key(2048)
    mixed = key.sign(b"m", padding.PSS(padding.MGF1(hashes.SHA1()), 32), hashes.SHA256())  # noqa: S303
    assert not verify(key.public_key(), ALGORITHMS["PS256"], b"m", mixed)


@pytest.mark.parametrize("name", ["RS256", "ES256", "EdDSA", "ML-DSA-44", "ML-DSA-87"])
@pytest.mark.parametrize("change", [lambda s: s + b"\0", lambda s: b"\0" + s, lambda s: s[:-1], lambda _: b""])
def test_a_signature_of_another_length_does_not_verify(name: str, change: Any) -> None:
    algorithm = ALGORITHMS[name]
    key = key_for(algorithm)
    assert not verify(key.public_key(), algorithm, b"m", change(sign(key, algorithm, b"m")))


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        (DER, "RS256"),
        (CONCATENATED, "PS256"),
        (DER, "EdDSA"),
        (CONCATENATED, "Ed25519"),
        (DER, "ML-DSA-65"),
        (OPAQUE, "ES256"),
    ],
)
def test_an_encoding_that_the_algorithm_does_not_have_is_refused(encoding: SignatureEncoding, name: str) -> None:
    with pytest.raises(SignatureFormatError, match=name):
        normalise(bytes(64), encoding, ALGORITHMS[name])


@pytest.mark.parametrize(
    "der",
    ["", "30", "3000", "3006020101020101ff", "30060201010201", "3106020101020101", "300702020001020101", "00" * 64],
)
def test_der_that_is_not_strict_is_refused(der: str) -> None:
    with pytest.raises(SignatureFormatError):
        normalise(bytes.fromhex(der), DER, ES256)


@given(st.sampled_from(ECDSA), st.data())
def test_r_and_s_survive_der_and_come_back_at_full_width(algorithm: Algorithm, data: st.DataObject) -> None:
    size = algorithm.kind.coordinate_size
    r, s = (data.draw(st.integers(0, (1 << size * 8) - 1)) for _ in "rs")
    raw = normalise(encode_dss_signature(r, s), DER, algorithm)
    assert len(raw) == 2 * size
    assert (int.from_bytes(raw[:size], "big"), int.from_bytes(raw[size:], "big")) == (r, s)
    assert normalise(raw, CONCATENATED, algorithm) == raw


@given(st.binary(max_size=160), st.sampled_from([DER, CONCATENATED]), st.sampled_from(ECDSA))
def test_whatever_a_backend_answers_becomes_full_width_or_is_refused(
    value: bytes, encoding: SignatureEncoding, algorithm: Algorithm
) -> None:
    try:
        raw = normalise(value, encoding, algorithm)
    except SignatureFormatError:
        return
    assert len(raw) == 2 * algorithm.kind.coordinate_size


@given(st.binary(max_size=300), st.sampled_from(list(ALGORITHMS.values())))
def test_no_bytes_make_verification_fail_otherwise_than_by_saying_no(signature: bytes, algorithm: Algorithm) -> None:
    for key in (elliptic("P-256", 7), rsa_key(2048), edwards()):
        assert verify(key.public_key(), algorithm, b"m", signature) is False
