"""Verifies signatures: as the core does for every token, and with another JOSE library."""

from __future__ import annotations

import base64
import json
import warnings
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, OKPKey, RSAKey
from jwcrypto.common import JWException
from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS

from sealwright.errors import SignatureRejectedError
from sealwright.jose import base64url
from sealwright.jose.algorithms import Algorithm
from sealwright.jose.jwk import load_public_key, to_jwk
from sealwright.jose.signatures import SignatureFormatError, normalise, verify
from sealwright.provider import KeyDescription, RawSignature

_JOSERFC_KEYS: Final[dict[str, Any]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
"""By the JWK's `kty`."""


def signing_input(algorithm: Algorithm, claim: str = "") -> bytes:
    """Return a JWS signing input that depends on the claim."""
    parts = ({"alg": algorithm.name}, {"sub": claim})
    return ".".join(base64url.encode(json.dumps(part).encode()) for part in parts).encode()


def accept(key: KeyDescription, algorithm: Algorithm, message: bytes, raw: RawSignature) -> bytes:
    """Return a signature in JOSE form after the checks that `sealwright.signing` makes before it releases a token.

    Raises:
        SignatureRejectedError: This key did not make the signature.
    """
    try:
        signature = normalise(raw.value, raw.encoding, algorithm)
    except SignatureFormatError as e:
        raise SignatureRejectedError("not in the form of a signature") from e
    if key.public_key is None:
        genuine = algorithm.symmetric and len(signature) == algorithm.signature_size(None)
    else:
        genuine = verify(load_public_key(key.public_key), algorithm, message, signature)
    if raw.key_uri != key.uri or not genuine:
        raise SignatureRejectedError("not a signature by this key")
    return signature


def another_library_accepts(public_key: bytes, algorithm: Algorithm, message: bytes, signature: bytes) -> bool:
    """Tell whether joserfc accepts the token, or, for ML-DSA, which joserfc does not have, jwcrypto.

    Args:
        public_key: SubjectPublicKeyInfo, DER.
        algorithm: The only algorithm that it may accept.
        message: The signing input.
        signature: The signature in JOSE form.
    """
    token = message + b"." + base64url.encode(signature).encode()
    if algorithm.kind.kty in _JOSERFC_KEYS:
        return _joserfc_accepts(public_key, algorithm, token)
    return _jwcrypto_accepts(public_key, algorithm, token)


def _joserfc_accepts(public_key: bytes, algorithm: Algorithm, token: bytes) -> bool:
    text = base64.encodebytes(public_key).decode("ascii")
    key = _JOSERFC_KEYS[algorithm.kind.kty].import_key(f"-----BEGIN PUBLIC KEY-----\n{text}-----END PUBLIC KEY-----\n")
    with warnings.catch_warnings():
        # joserfc warns that RFC 9864 deprecates the name EdDSA.
        warnings.simplefilter("ignore", SecurityWarning)
        try:
            jws.deserialize_compact(token, key, algorithms=[algorithm.name])
        except JoseError:
            return False
    return True


def _jwcrypto_accepts(public_key: bytes, algorithm: Algorithm, token: bytes) -> bool:
    # The library cannot read such keys from PEM. Its own code verifies the JWK that we publish.
    key = JWK(**to_jwk(load_public_key(public_key), algorithm).as_dict())
    read = JWS()
    read.allowed_algs = [algorithm.name]
    try:
        read.deserialize(token.decode("ascii"), key)
    except JWException:
        return False
    return True
