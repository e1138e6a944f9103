"""ML-DSA (FIPS 204) as RFC 9964 uses it: pure, with an empty context; public keys as RFC 9881 has them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import mldsa
from hypothesis import given
from hypothesis import strategies as st
from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS

from sealwright.jose.algorithms import ALGORITHMS
from sealwright.jose.jwk import KeyFormatError, load_public_key, thumbprint, to_jwk
from sealwright.jose.signatures import SignatureEncoding, normalise, verify
from sealwright.jose.token import compact, header_segment, signing_input
from unit.jose import rfc9964_vectors as rfc
from unit.jose.keys import ML_DSA, decode, ml_dsa, sign, spki

SIZES = {"ML-DSA-44": (1312, 2420), "ML-DSA-65": (1952, 3309), "ML-DSA-87": (2592, 4627)}
"""RFC 9964: bytes of the public key and of a signature."""

OIDS = {"ML-DSA-44": 0x11, "ML-DSA-65": 0x12, "ML-DSA-87": 0x13}
"""RFC 9881: the last octet of id-ml-dsa-*, 2.16.840.1.101.3.4.3."""

every = pytest.mark.parametrize("name", list(ML_DSA))


def test_the_signature_of_rfc_9964_verifies_and_its_key_has_the_published_kid() -> None:
    key = ml_dsa("ML-DSA-44").public_key()
    signed, _, signature = rfc.ML_DSA_44_COMPACT.rpartition(".")
    header, payload = (decode(part) for part in signed.split("."))
    assert json.loads(header) == {"alg": "ML-DSA-44", "kid": thumbprint(key)}
    assert payload.decode() == rfc.PAYLOAD
    assert verify(key, ALGORITHMS["ML-DSA-44"], signed.encode(), decode(signature))
    assert not verify(key, ALGORITHMS["ML-DSA-44"], signed.encode() + b"a", decode(signature))
    assert compact(signed.encode(), decode(signature)) == rfc.ML_DSA_44_COMPACT


@every
def test_the_thumbprint_of_rfc_9964_is_over_alg_kty_and_pub(name: str) -> None:
    key = ml_dsa(name).public_key()
    jwk = to_jwk(load_public_key(spki(key)), ALGORITHMS[name])
    assert jwk.kid == rfc.KIDS[name]
    assert [member for member, _ in jwk.members] == ["alg", "kty", "pub"]


@every
def test_c17_an_akp_jwk_has_public_members_only_and_names_its_algorithm(name: str) -> None:
    key = ml_dsa(name)
    jwk = to_jwk(key.public_key(), ALGORITHMS[name]).as_dict()
    assert jwk.keys() == {"kty", "alg", "pub", "use", "kid"}
    assert (jwk["kty"], jwk["alg"], jwk["use"]) == ("AKP", name, "sig")
    assert decode(jwk["pub"]) == key.public_key().public_bytes_raw()
    private: Any = key
    with pytest.raises(KeyFormatError):
        to_jwk(private, ALGORITHMS[name])


@every
def test_keys_and_signatures_have_the_sizes_of_rfc_9964(name: str) -> None:
    algorithm, key = ALGORITHMS[name], ml_dsa(name)
    public, signature = SIZES[name]
    assert algorithm.kind.public_size == len(decode(dict(algorithm.kind.members(key.public_key()))["pub"])) == public
    assert algorithm.signature_size(key.public_key()) == len(sign(key, algorithm, b"m")) == signature


@every
def test_another_library_reads_the_key_and_verifies_the_token(name: str) -> None:
    algorithm, key = ALGORITHMS[name], ml_dsa(name)
    jwk = to_jwk(key.public_key(), algorithm)
    signed = signing_input(header_segment(alg=name, kid=jwk.kid, typ="JWT"), b"{}")
    token = JWS()
    token.allowed_algs = [name]
    token.deserialize(compact(signed, sign(key, algorithm, signed)), JWK(**jwk.as_dict()))
    assert token.payload == b"{}"


@every
def test_every_changed_byte_of_a_signature_makes_it_fail(name: str) -> None:
    algorithm, key = ALGORITHMS[name], ml_dsa(name)
    public, signature = key.public_key(), sign(key, algorithm, b"m")
    assert verify(public, algorithm, b"m", signature)
    passed = [
        place
        for place in range(len(signature))
        if verify(public, algorithm, b"m", signature[:place] + bytes([signature[place] ^ 1]) + signature[place + 1 :])
    ]
    assert passed == []


@every
def test_every_changed_byte_of_the_message_makes_it_fail(name: str) -> None:
    algorithm, key = ALGORITHMS[name], ml_dsa(name)
    message = bytes(range(200))
    signature = sign(key, algorithm, message)
    for place in range(len(message)):
        changed = message[:place] + bytes([message[place] ^ 0x80]) + message[place + 1 :]
        assert not verify(key.public_key(), algorithm, changed, signature)


@given(name=st.sampled_from(list(ML_DSA)), message=st.binary(max_size=5000), which=st.integers(0, 255))
def test_what_a_key_signs_verifies_with_that_key_alone(name: str, message: bytes, which: int) -> None:
    algorithm, key = ALGORITHMS[name], ml_dsa(name, which)
    signature = normalise(key.sign(message), SignatureEncoding.OPAQUE, algorithm)
    assert verify(key.public_key(), algorithm, message, signature)
    assert not verify(ml_dsa(name, (which + 1) % 256).public_key(), algorithm, message, signature)
    assert not verify(key.public_key(), algorithm, message + b"\0", signature)


@every
def test_a_context_makes_another_signature(name: str) -> None:
    key = ml_dsa(name)
    assert not verify(key.public_key(), ALGORITHMS[name], b"m", key.sign(b"m", b"context"))


@every
@pytest.mark.parametrize("size", [0, 1, 4096, 70_000])
def test_the_representative_is_mu_of_fips_204(name: str, size: int) -> None:
    key = ml_dsa(name)
    public, message = key.public_key(), b"m" * size
    mu = ALGORITHMS[name].representative(public, message)
    tr = hashlib.shake_256(public.public_bytes_raw()).digest(64)
    # FIPS 204, algorithms 2 and 7: the message is preceded by 0 (pure) and by the length of the context.
    assert mu == hashlib.shake_256(tr + b"\0\0" + message).digest(64)
    assert verify(public, ALGORITHMS[name], message, key.sign_mu(mu))


def test_only_ml_dsa_has_a_representative() -> None:
    public = ml_dsa("ML-DSA-44").public_key()
    assert {n for n, a in ALGORITHMS.items() if a.has_representative} == set(ML_DSA)
    with pytest.raises(ValueError, match="EdDSA"):
        ALGORITHMS["EdDSA"].representative(public, b"m")


def _der(tag: int, value: bytes) -> bytes:
    size = len(value)
    return bytes([tag]) + (bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")) + value


@every
def test_a_public_key_has_the_form_of_rfc_9881_and_no_other(name: str) -> None:
    public = ml_dsa(name).public_key()
    raw = public.public_bytes_raw()
    oid = bytes.fromhex("06096086480165030403") + bytes([OIDS[name]])
    assert _der(0x30, _der(0x30, oid) + _der(0x03, b"\0" + raw)) == spki(public)
    others = [bytes([*oid[:-1], last]) for last in OIDS.values() if last != oid[-1]]
    for identifier, bits in (
        (oid, b"\0" + raw[:-1]),
        (oid, b"\0" + raw + b"\0"),
        (oid, b"\0" + _der(0x04, raw)),
        (oid, b"\1" + raw),
        (oid + b"\x05\0", b"\0" + raw),  # parameters must be absent
        *((other, b"\0" + raw) for other in others),
    ):
        with pytest.raises(KeyFormatError):
            load_public_key(_der(0x30, _der(0x30, identifier) + _der(0x03, bits)))


@every
def test_an_installation_without_ml_dsa_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ALGORITHMS[name].available

    def missing(_data: bytes) -> Any:
        raise UnsupportedAlgorithm("not in this OpenSSL")

    monkeypatch.setattr(mldsa.MLDSA44PublicKey, "from_public_bytes", missing)
    assert not ALGORITHMS[name].available
    assert ALGORITHMS["ES256"].available
