"""Verifiers that run on Python, each used as its documentation says, with a JWK Set read from its URL."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from joserfc import errors as joserfc_errors
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet
from jwcrypto import jwk as jwcrypto_jwk
from jwcrypto import jwt as jwcrypto_jwt

from interop.interop_support import ALGORITHMS, AUDIENCE, issuer_url


@dataclass(frozen=True, slots=True)
class Verifier:
    """A library.

    Attributes:
        verify: Returns the claims of a token, given the URL of the JWK Set.
        usable: Returns the kids and algorithms of the keys of the set at a URL that the library can verify with.
        refusals: What it raises, by why it refuses.
    """

    verify: Callable[[str, str], Mapping[str, Any]]
    usable: Callable[[str], dict[str, str]]
    refusals: Mapping[str, type[Exception]]


def _read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our service, on loopback
        return str(answer.read(), "utf-8")


def _pyjwt_verify(url: str, token: str) -> Mapping[str, Any]:
    key = jwt.PyJWKClient(url).get_signing_key_from_jwt(token)
    return jwt.decode(token, key, list(ALGORITHMS), audience=AUDIENCE, issuer=issuer_url())


def _pyjwt_usable(url: str) -> dict[str, str]:
    return {str(k.key_id): k.algorithm_name for k in jwt.PyJWKClient(url).get_signing_keys()}


def _joserfc_verify(url: str, token: str) -> Mapping[str, Any]:
    keys = KeySet.import_key_set(json.loads(_read(url)))
    decoded = joserfc_jwt.decode(token, keys, algorithms=list(ALGORITHMS))
    registry = joserfc_jwt.JWTClaimsRegistry(
        exp={"essential": True},
        iss={"essential": True, "value": issuer_url()},
        aud={"essential": True, "value": AUDIENCE},
    )
    registry.validate(decoded.claims)
    return decoded.claims


def _joserfc_usable(url: str) -> dict[str, str]:
    keys = KeySet.import_key_set(json.loads(_read(url)))
    for key in keys:
        key.check_key_op("verify")
    return {str(k.kid): str(k.alg) for k in keys}


def _jwcrypto_verify(url: str, token: str) -> Mapping[str, Any]:
    checked = jwcrypto_jwt.JWT(algs=list(ALGORITHMS), check_claims={"iss": issuer_url(), "aud": AUDIENCE, "exp": None})
    checked.leeway = 0
    checked.deserialize(token, jwcrypto_jwk.JWKSet.from_json(_read(url)))
    return dict(json.loads(checked.claims))


def _jwcrypto_usable(url: str) -> dict[str, str]:
    keys: set[jwcrypto_jwk.JWK] = jwcrypto_jwk.JWKSet.from_json(_read(url))["keys"]
    for key in keys:
        key.get_op_key("verify")
    return {key["kid"]: key["alg"] for key in keys}


VERIFIERS: Mapping[str, Verifier] = {
    "pyjwt": Verifier(
        _pyjwt_verify,
        _pyjwt_usable,
        {
            "expired": jwt.ExpiredSignatureError,
            "tampered": jwt.InvalidSignatureError,
            "forged": jwt.InvalidSignatureError,
            "unknown_kid": jwt.PyJWKClientError,
            "wrong_audience": jwt.InvalidAudienceError,
        },
    ),
    "joserfc": Verifier(
        _joserfc_verify,
        _joserfc_usable,
        {
            "expired": joserfc_errors.ExpiredTokenError,
            "tampered": joserfc_errors.BadSignatureError,
            "forged": joserfc_errors.BadSignatureError,
            "unknown_kid": joserfc_errors.InvalidKeyIdError,
            "wrong_audience": joserfc_errors.InvalidClaimError,
        },
    ),
    "jwcrypto": Verifier(
        _jwcrypto_verify,
        _jwcrypto_usable,
        {
            "expired": jwcrypto_jwt.JWTExpired,
            # Given a set, it tries whatever may fit and says of all failures that no key did.
            "tampered": jwcrypto_jwt.JWTMissingKey,
            "forged": jwcrypto_jwt.JWTMissingKey,
            "unknown_kid": jwcrypto_jwt.JWTMissingKey,
            "wrong_audience": jwcrypto_jwt.JWTInvalidClaimValue,
        },
    ),
}
