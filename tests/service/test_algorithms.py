"""Algorithms beyond those that every library reads: each in an issuer of its own, and in a set with others only by choice."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import jwt
import pytest
from joserfc import jws
from joserfc.jwk import KeySet
from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS

from sealwright.config import parse
from sealwright.errors import ConfigurationError
from sealwright.jose import base64url
from sealwright_testing.emulators.aws import AwsEmulator
from support.document import document, issuer
from support.service import failure, running


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")  # joserfc says so of the name that most verifiers know
@pytest.mark.parametrize("name", ["EdDSA", "Ed25519", "ES256K"])
async def test_c37_c39_header_jwk_and_discovery_agree_on_the_algorithms_name(
    tmp_path: Path,
    emulator: AwsEmulator,
    name: str,
) -> None:
    async with running(document(tmp_path, emulator.endpoint, issuer("payments", name))) as service:
        signed = await service.sign()
        published = (await service.published())[signed.kid]
        assert jwt.get_unverified_header(signed.token)["alg"] == published["alg"] == signed.algorithm == name
        _, _, metadata = await service.get("/payments/.well-known/openid-configuration")
        assert json.loads(metadata)["id_token_signing_alg_values_supported"] == [name]
        keys = KeySet.import_key_set({"keys": [dict(k) for k in (await service.published()).values()]})
        assert jws.deserialize_compact(signed.token, keys, algorithms=[name]).headers()["alg"] == name


async def test_c38_an_ed25519_token_over_4096_bytes_is_refused_with_the_limit_and_no_kms_call(
    tmp_path: Path,
    emulator: AwsEmulator,
) -> None:
    async with running(document(tmp_path, emulator.endpoint, issuer("payments", "EdDSA"))) as service:
        await service.sign(json.dumps({"x": "y" * 2500}))
        emulator.reset_calls()
        refused = await failure(service.sign(json.dumps({"x": "y" * 3500})))
        assert (refused.code, refused.reason, refused.metadata["limit"]) == (
            "INVALID_ARGUMENT",
            "TOKEN_TOO_LARGE",
            "4096",
        )
        assert emulator.calls.get("Sign", 0) == 0


@pytest.mark.parametrize(
    ("name", "size"), [("ML-DSA-44", 2420), ("ML-DSA-65", 3309), ("ML-DSA-87", 4627)], ids=["44", "65", "87"]
)
async def test_c43_c45_ml_dsa_tokens_of_any_size_verify_with_the_set_of_their_own_issuer(
    tmp_path: Path, emulator: AwsEmulator, name: str, size: int
) -> None:
    issuers = issuer("payments", name, max_token_bytes=64 * 1024), issuer("classic", "ES256")
    async with running(document(tmp_path, emulator.endpoint, *issuers)) as service:
        keys = (await service.published()).values()
        assert {(k["kty"], k["alg"]) for k in keys} == {("AKP", name)}
        assert all(k.keys() == {"kty", "alg", "pub", "use", "kid"} for k in keys)
        _, _, metadata = await service.get("/payments/.well-known/openid-configuration")
        assert json.loads(metadata)["id_token_signing_alg_values_supported"] == [name]
        _, _, classic = await service.get("/classic/.well-known/jwks.json")
        assert {k["kty"] for k in json.loads(classic)["keys"]} == {"EC"}
        emulator.reset_calls()
        for claims in ({}, {"x": "y" * 20_000}):
            signed = await service.sign(json.dumps(claims))
            assert len(base64url.decode(signed.token.rpartition(".")[2])) == size
            token = JWS()
            token.allowed_algs = [name]
            token.deserialize(signed.token)
            token.verify(JWK(**next(k for k in keys if k["kid"] == signed.kid)))
            assert (token.jose_header["alg"], token.jose_header["kid"]) == (name, signed.kid)
    sent = [(r.message_type, r.message_length) for r in emulator.requests if r.operation == "Sign"]
    assert (sent[0][0], sent[1]) == ("RAW", ("EXTERNAL_MU", 64))


async def test_c74_an_ml_dsa_token_over_the_issuers_limit_is_refused_without_a_kms_call(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    async with running(document(tmp_path, emulator.endpoint, issuer("payments", "ML-DSA-87"))) as service:
        assert (await service.sign()).token
        emulator.reset_calls()
        refused = await failure(service.sign(json.dumps({"x": "y" * 1000})))
        assert (refused.reason, refused.metadata["limit"]) == ("TOKEN_TOO_LARGE", "7168")
        assert not emulator.calls.get("Sign")


@pytest.mark.parametrize(("name", "size"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
async def test_a_secret_key_signs_and_is_never_published(
    tmp_path: Path,
    emulator: AwsEmulator,
    name: str,
    size: int,
) -> None:
    async with running(document(tmp_path, emulator.endpoint, issuer("payments", "ES256", name))) as service:
        signed = await service.sign(algorithm=name)
        assert len(base64url.decode(signed.token.rpartition(".")[2])) == size
        key = next(k for k in await service.list_keys() if k.kid == signed.kid)
        assert signed.kid == base64url.encode(hashlib.sha256(key.key_uri.encode()).digest())
        published = await service.published()
        assert signed.kid not in published
        assert {k["kty"] for k in published.values()} == {"EC"}
        emulator.add_fault("truncated_signature", operation="GenerateMac")
        assert (await failure(service.sign(algorithm=name))).reason == "SIGNATURE_REJECTED"


@pytest.mark.parametrize("name", ["EdDSA", "ES256K", "ES512", "ML-DSA-44"])
def test_c42_c43_a_key_that_some_libraries_cannot_read_joins_a_set_only_by_choice(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="mixed_key_types"):
        parse(document(tmp_path, "http://127.0.0.1:1", issuer("payments", "RS256", name)))
    parse(document(tmp_path, "http://127.0.0.1:1", issuer("payments", "RS256", name, mixed_key_types=True)))
