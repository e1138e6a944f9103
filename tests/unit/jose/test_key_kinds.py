"""Kinds of keys: those in the table, and new ones, for which no other module needs a change."""

from __future__ import annotations

import base64
from types import MappingProxyType

import pytest
from cryptography.hazmat.primitives.asymmetric import ed448
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sealwright.jose import jwk, key_kinds
from sealwright.jose.algorithms import ALGORITHMS, KEY_KINDS, Algorithm
from sealwright.jose.jwk import KeyFormatError, load_public_key, to_jwk
from sealwright.jose.key_kinds import KeyKind, PublicKey
from sealwright.jose.signatures import SignatureEncoding, normalise, verify
from unit.jose.keys import key_for, spki


def install(monkeypatch: pytest.MonkeyPatch, kind: KeyKind) -> None:
    monkeypatch.setattr(jwk, "KEY_KINDS", MappingProxyType({**KEY_KINDS, kind.name: kind}))


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def judged(key: PublicKey, algorithm: Algorithm, message: bytes, signature: bytes) -> bool:
    return verify(key, algorithm, message, normalise(signature, SignatureEncoding.OPAQUE, algorithm))


def test_ed448_is_one_kind_and_one_algorithm(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = key_kinds._okp("Ed448", ed448.Ed448PublicKey, 57, 114)
    algorithm = Algorithm("Ed448", kind)
    private = ed448.Ed448PrivateKey.generate()
    public = private.public_key()
    with pytest.raises(KeyFormatError):
        load_public_key(spki(public))
    install(monkeypatch, kind)
    assert load_public_key(spki(public)) == public
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert kind.from_point is not None
    assert (kind.public_size, kind.from_point(raw)) == (len(raw), public)
    assert to_jwk(public, algorithm).members == (("crv", "Ed448"), ("kty", "OKP"), ("x", b64(raw)))
    signature = private.sign(b"m")
    assert algorithm.signature_size(public) == len(signature) == 114
    assert judged(public, algorithm, b"m", signature)
    assert not judged(public, algorithm, b"n", signature)
    assert (algorithm.symmetric, algorithm.prehashed, algorithm.two_integers, algorithm.takes_rsa_bits) == (False,) * 4


@pytest.mark.parametrize("kind", KEY_KINDS.values(), ids=list(KEY_KINDS))
def test_what_a_kind_says_of_its_keys_is_true(kind: KeyKind) -> None:
    ours = [a for a in ALGORITHMS.values() if a.kind is kind]
    assert {a.symmetric for a in ours} == {kind.secret}
    assert {a.two_integers for a in ours} == {kind.kty == "EC"}
    assert {a.prehashed for a in ours} == {kind.kty in {"RSA", "EC"}}
    assert {a.takes_rsa_bits for a in ours} == {kind.kty == "RSA"}
    if kind.secret:
        assert kind.fits(None)
        with pytest.raises(ValueError, match="secret"):
            kind.members(None)
        return
    public = key_for(ours[0]).public_key()
    assert kind.fits(public)
    assert not kind.fits(None)
    assert dict(kind.members(public))["kty"] == kind.kty
    assert kind.available()
    assert (kind.representative is not None) == (kind.kty == "AKP")
    if kind.from_point is not None:
        form = (Encoding.X962, PublicFormat.UncompressedPoint) if kind.kty == "EC" else (Encoding.Raw, PublicFormat.Raw)
        point = public.public_bytes(*form)
        assert (len(point), kind.from_point(point)) == (kind.public_size, public)


def test_only_a_complete_row_makes_an_algorithm() -> None:
    for kind in (key_kinds.RSA, key_kinds.P256):
        with pytest.raises(ValueError, match="hash"):
            Algorithm("X", kind)


def test_no_signature_verifies_with_a_secret_algorithm() -> None:
    public = key_for(ALGORITHMS["ES256"]).public_key()
    assert not verify(public, ALGORITHMS["HS256"], b"m", bytes(32))
