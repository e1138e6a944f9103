"""From a key as Key Vault describes it to our description of the public half.

Its JWK is Azure's own dialect: `kty` may end in `-HSM`, the curve secp256k1 is called `P-256K`, and `key_ops` are those of the
private key. None of that may reach a JWK Set, so only the numbers are taken from it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sealwright.provider import KEY_KINDS, Protection, ProviderUnavailableError, ProviderUnsupportedError, PublicKey
from sealwright_providers.azure.algorithms import CURVES, algorithms_of

_HSM = "-HSM"


def public_key(jwk: Mapping[str, Any]) -> bytes | None:
    """Return the SubjectPublicKeyInfo of a key; None for a secret (HMAC) key.

    Raises:
        ProviderUnsupportedError: Sealwright does not know this type of key or curve.
        ProviderUnavailableError: The members are not those of a public key.
    """
    if _kind(jwk) == "oct":
        return None
    try:
        key = _load(jwk)
    except (KeyError, TypeError, ValueError, OverflowError, binascii.Error):
        raise ProviderUnavailableError("the answer of Key Vault contains no public key") from None
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def algorithms(jwk: Mapping[str, Any]) -> frozenset[str]:
    """Return the JWS algorithms that Key Vault lets a key sign with: none, unless its operations include `sign`."""
    operations = jwk.get("key_ops")
    return algorithms_of(_kind(jwk)) if isinstance(operations, list) and "sign" in operations else frozenset()


def protection(jwk: Mapping[str, Any]) -> Protection:
    """Return where the private key is kept."""
    return Protection.HSM if str(jwk.get("kty")).endswith(_HSM) else Protection.SOFTWARE


def _kind(jwk: Mapping[str, Any]) -> str:
    """Return the name of the key's kind."""
    kty = str(jwk.get("kty")).removesuffix(_HSM)
    kind = CURVES.get(str(jwk.get("crv"))) if kty == "EC" else kty
    if kind is None or kind not in KEY_KINDS:
        raise ProviderUnsupportedError("Sealwright does not know this type of key or curve of Key Vault")
    return kind


def _load(jwk: Mapping[str, Any]) -> PublicKey:
    kind = KEY_KINDS[_kind(jwk)]
    if kind.from_point is None:
        return rsa.RSAPublicNumbers(e=_number(jwk["e"]), n=_number(jwk["n"])).public_key()
    # Full width (RFC 7518 §6.2.1.2), whether or not Azure kept leading zeros.
    x, y = (_number(jwk[name]).to_bytes(kind.coordinate_size, "big") for name in ("x", "y"))
    return kind.from_point(b"\x04" + x + y)


def _number(text: str) -> int:
    return int.from_bytes(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True), "big")
