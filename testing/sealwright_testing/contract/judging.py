"""Who says that a signature is one: the core, as it does for every token, and a library that we have not written."""

from __future__ import annotations

import base64
import json
import warnings
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, OKPKey, RSAKey

from sealwright.errors import SignatureRejectedError
from sealwright.jose import base64url
from sealwright.jose.algorithms import Algorithm
from sealwright.jose.jwk import load_public_key
from sealwright.jose.signatures import SignatureFormatError, normalise, verify
from sealwright.provider import KeyDescription, RawSignature

_JOSERFC_KEYS: Final[dict[str, Any]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
"""By the JWK's `kty`."""


def signing_input(algorithm: Algorithm, claim: str = "") -> bytes:
    """Return a JWS signing input; another one for another claim."""
    parts = ({"alg": algorithm.name}, {"sub": claim})
    return ".".join(base64url.encode(json.dumps(part).encode()) for part in parts).encode()


def accept(key: KeyDescription, algorithm: Algorithm, message: bytes, raw: RawSignature) -> bytes:
    """Return a signature in JOSE form, as `sealwright.signing` does before a token may leave.

    Raises:
        SignatureRejectedError: It was not made by that very key.
    """
    try:
        signature = normalise(raw.value, raw.encoding, algorithm)
    except SignatureFormatError as e:
        raise SignatureRejectedError("the form is not a signature's") from e
    if key.public_key is None:
        genuine = algorithm.symmetric and len(signature) == algorithm.signature_size(None)
    else:
        genuine = verify(load_public_key(key.public_key), algorithm, message, signature)
    if raw.key_uri != key.uri or not genuine:
        raise SignatureRejectedError("not a signature by that key")
    return signature


def joserfc_accepts(public_key: bytes, algorithm: Algorithm, message: bytes, signature: bytes) -> bool:
    """Tell whether joserfc takes the token.

    Args:
        public_key: SubjectPublicKeyInfo, DER.
        algorithm: The only algorithm that it may take.
        message: The signing input.
        signature: In JOSE form.
    """
    text = base64.encodebytes(public_key).decode("ascii")
    key = _JOSERFC_KEYS[algorithm.kind.kty].import_key(f"-----BEGIN PUBLIC KEY-----\n{text}-----END PUBLIC KEY-----\n")
    token = message + b"." + base64url.encode(signature).encode()
    with warnings.catch_warnings():
        # That EdDSA has another name since RFC 9864 is for those who configure it.
        warnings.simplefilter("ignore", SecurityWarning)
        try:
            jws.deserialize_compact(token, key, algorithms=[algorithm.name])
        except JoseError:
            return False
    return True
