from __future__ import annotations

import hashlib
import json

import pytest

from sealwright.jose import base64url
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.jose.jwk import load_public_key, thumbprint, to_jwk
from sealwright.jose.signatures import SignatureEncoding, normalise, verify
from sealwright.jose.token import compact, compact_length, signing_input
from unit.jose import rfc_vectors as rfc
from unit.jose.keys import decode, from_members, number, spki

SIGNED = [
    pytest.param("RS256", rfc.RFC7515_A2_KEY, rfc.RFC7515_A2_COMPACT, rfc.RFC7515_PAYLOAD, id="RFC 7515 A.2"),
    pytest.param("ES256", rfc.RFC7515_A3_KEY, rfc.RFC7515_A3_COMPACT, rfc.RFC7515_PAYLOAD, id="RFC 7515 A.3"),
    pytest.param("ES512", rfc.RFC7515_A4_KEY, rfc.RFC7515_A4_COMPACT, "Payload", id="RFC 7515 A.4"),
    pytest.param("EdDSA", rfc.RFC8037_A2_KEY, rfc.RFC8037_A4_COMPACT, "Example of Ed25519 signing", id="RFC 8037 A.4"),
]

KEYS = [
    pytest.param(rfc.RFC7515_A2_KEY, "RS256", id="RFC 7515 A.2"),
    pytest.param(rfc.RFC7515_A3_KEY, "ES256", id="RFC 7515 A.3"),
    pytest.param(rfc.RFC7515_A4_KEY, "ES512", id="RFC 7515 A.4"),
    pytest.param(rfc.RFC7517_A1_EC, "ES256", id="RFC 7517 A.1 EC"),
    pytest.param(rfc.RFC7517_A1_RSA, "RS256", id="RFC 7517 A.1 RSA"),
    pytest.param(rfc.RFC8037_A2_KEY, "EdDSA", id="RFC 8037 A.2"),
]


@pytest.mark.parametrize(("name", "members", "token", "payload"), SIGNED)
def test_the_signature_of_an_rfc_example_verifies(name: str, members: dict[str, str], token: str, payload: str) -> None:
    signed, _, signature = token.rpartition(".")
    assert decode(signed.split(".")[1]).decode() == payload
    assert verify(from_members(members), ALGORITHMS[name], signed.encode(), decode(signature))


@pytest.mark.parametrize(("name", "members", "token", "payload"), SIGNED)
def test_one_changed_bit_of_an_rfc_example_does_not_verify(
    name: str, members: dict[str, str], token: str, payload: str
) -> None:
    signed, _, signature = token.rpartition(".")
    key, raw = from_members(members), decode(signature)
    changed = bytes([*raw[:-1], raw[-1] ^ 1])
    assert not verify(key, ALGORITHMS[name], signed.encode(), changed)
    assert not verify(key, ALGORITHMS[name], signed.encode() + payload[:1].encode(), raw)


@pytest.mark.parametrize(("name", "members", "token", "payload"), SIGNED)
def test_the_compact_form_of_an_rfc_example_is_rebuilt(
    name: str, members: dict[str, str], token: str, payload: str
) -> None:
    signed = signing_input(base64url.encode(f'{{"alg":"{name}"}}'.encode()), payload.encode())
    signature = decode(token.rpartition(".")[2])
    assert compact(signed, signature) == token
    size = ALGORITHMS[name].signature_size(from_members(members))
    assert size == len(signature)
    assert compact_length(signed, size) == len(token)


@pytest.mark.parametrize("members", [rfc.RFC7515_A3_KEY, rfc.RFC7515_A4_KEY], ids=["A.3", "A.4"])
def test_the_octets_of_r_and_s_in_rfc_7515_are_what_concatenated_answers_become(members: dict[str, str]) -> None:
    name, token = {"P-256": ("ES256", rfc.RFC7515_A3_COMPACT), "P-521": ("ES512", rfc.RFC7515_A4_COMPACT)}[
        members["crv"]
    ]
    raw = decode(token.rpartition(".")[2])
    assert normalise(raw, SignatureEncoding.CONCATENATED, ALGORITHMS[name]) == raw


@pytest.mark.parametrize(("members", "name"), KEYS)
def test_the_public_key_of_an_rfc_example_keeps_its_members(members: dict[str, str], name: str) -> None:
    jwk = to_jwk(load_public_key(spki(from_members(members))), ALGORITHMS[name])
    assert jwk.as_dict() == members | {"use": "sig", "alg": name, "kid": jwk.kid}


@pytest.mark.parametrize(("members", "name"), KEYS)
def test_the_thumbprint_hashes_the_required_members_in_lexicographic_order(members: dict[str, str], name: str) -> None:
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":"))
    jwk = to_jwk(from_members(members), ALGORITHMS[name])
    assert jwk.kid == base64url.encode(hashlib.sha256(canonical.encode()).digest())


def test_the_thumbprint_of_rfc_7638_section_3_1() -> None:
    assert thumbprint(from_members(rfc.RFC7517_A1_RSA)) == rfc.RFC7638_THUMBPRINT


def test_the_thumbprint_of_rfc_8037_appendix_a_3() -> None:
    assert thumbprint(from_members(rfc.RFC8037_A2_KEY)) == rfc.RFC8037_A3_THUMBPRINT


def test_rfc_7518_section_6_3_1_2_writes_65537_as_aqab() -> None:
    assert to_jwk(from_members(rfc.RFC7515_A2_KEY), ALGORITHMS["RS256"]).as_dict()["e"] == "AQAB"
    assert number("AQAB") == 65537


def test_the_appendix_c_of_rfc_7515_base64url_example() -> None:
    assert base64url.encode(bytes([3, 236, 255, 224, 193])) == "A-z_4ME"


@pytest.mark.parametrize("size", range(10))
def test_the_encoded_length_is_known_beforehand(size: int) -> None:
    assert base64url.encoded_length(size) == len(base64url.encode(bytes(size)))
