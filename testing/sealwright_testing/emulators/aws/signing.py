"""Key material, and the cryptographic operations of AWS KMS. Keys do not leave this process, and end with it.

The functions only compute. RSA takes milliseconds and more, so the handlers run it in a thread (pyca/cryptography releases
the GIL).
"""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from . import ed25519ph
from .specs import KeySpec, MacAlgorithm, MessageType, SigningAlgorithm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives import hashes

MlDsaPrivateKey = mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey
MlDsaPublicKey = mldsa.MLDSA44PublicKey | mldsa.MLDSA65PublicKey | mldsa.MLDSA87PublicKey
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | MlDsaPrivateKey
Material = PrivateKey | bytes

_PUBLIC_EXPONENT: Final = 65537
_SYMMETRIC_BYTES: Final = 32
_CURVES: Final[Mapping[KeySpec, type[ec.EllipticCurve]]] = {
    KeySpec.ECC_NIST_P256: ec.SECP256R1,
    KeySpec.ECC_NIST_P384: ec.SECP384R1,
    KeySpec.ECC_NIST_P521: ec.SECP521R1,
    KeySpec.ECC_SECG_P256K1: ec.SECP256K1,
}
_ML_DSA: Final[Mapping[KeySpec, type[MlDsaPrivateKey]]] = {
    KeySpec.ML_DSA_44: mldsa.MLDSA44PrivateKey,
    KeySpec.ML_DSA_65: mldsa.MLDSA65PrivateKey,
    KeySpec.ML_DSA_87: mldsa.MLDSA87PrivateKey,
}


def generate(spec: KeySpec) -> Material:
    """Return new key material: a key pair, or random bytes for HMAC and symmetric keys.

    RSA takes from tens of milliseconds (2048 bits) to a second (4096).
    """
    if spec.is_rsa:
        return rsa.generate_private_key(_PUBLIC_EXPONENT, int(spec.removeprefix("RSA_")))
    if spec is KeySpec.ECC_NIST_EDWARDS25519:
        return ed25519.Ed25519PrivateKey.generate()
    if spec in _ML_DSA:
        return _ML_DSA[spec].generate()
    if spec in _CURVES:
        return ec.generate_private_key(_CURVES[spec]())
    return secrets.token_bytes(int(spec.removeprefix("HMAC_")) // 8 if spec.is_hmac else _SYMMETRIC_BYTES)


def public_key_der(material: Material) -> bytes:
    """Return the public key as SubjectPublicKeyInfo DER: the `PublicKey` of GetPublicKey."""
    return _pair(material).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def sign(material: Material, algorithm: SigningAlgorithm, message: bytes, message_type: MessageType) -> bytes:
    """Return a signature in the encoding of AWS KMS: DER for ECDSA, otherwise the plain bytes.

    A RAW message is hashed, a DIGEST or EXTERNAL_MU is not. The caller has checked that key, algorithm and message fit.
    """
    key = _pair(material)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        if algorithm is SigningAlgorithm.ED25519_PH_SHA_512:
            # The service hashes the digest again: it applies the prehash of RFC 8032 to its input.
            return ed25519ph.sign(key.private_bytes_raw(), message)
        return key.sign(message)
    if isinstance(key, MlDsaPrivateKey):
        return key.sign_mu(message) if message_type is MessageType.EXTERNAL_MU else key.sign(message)
    chosen = _hash(algorithm, message_type)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(message, ec.ECDSA(chosen))
    return key.sign(message, _padding(algorithm), chosen)


def verify(
    material: Material, algorithm: SigningAlgorithm, message: bytes, message_type: MessageType, signature: bytes
) -> bool:
    """Return whether a signature is right. The caller has checked that key, algorithm and message fit."""
    public = _pair(material).public_key()
    try:
        if isinstance(public, ed25519.Ed25519PublicKey):
            if algorithm is SigningAlgorithm.ED25519_PH_SHA_512:
                return ed25519ph.verify(public.public_bytes_raw(), signature, message)
            public.verify(signature, message)
        elif isinstance(public, MlDsaPublicKey):
            check = public.verify_mu if message_type is MessageType.EXTERNAL_MU else public.verify
            check(signature, message)
        elif isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(signature, message, ec.ECDSA(_hash(algorithm, message_type)))
        else:
            public.verify(signature, message, _padding(algorithm), _hash(algorithm, message_type))
    except InvalidSignature:
        return False
    return True


def mac(material: Material, algorithm: MacAlgorithm, message: bytes) -> bytes:
    """Return the HMAC of a message, as long as the hash of the algorithm."""
    if not isinstance(material, bytes):
        raise TypeError("a key pair cannot compute an HMAC")
    return hmac.digest(material, message, algorithm.hash.name)


def same_mac(left: bytes, right: bytes) -> bool:
    """Return whether two authentication codes are equal."""
    return hmac.compare_digest(left, right)


def _pair(material: Material) -> PrivateKey:
    if isinstance(material, bytes):
        raise TypeError("a symmetric key has no public key")
    return material


def _hash(algorithm: SigningAlgorithm, message_type: MessageType) -> hashes.HashAlgorithm | utils.Prehashed:
    return utils.Prehashed(algorithm.hash) if message_type is MessageType.DIGEST else algorithm.hash


def _padding(algorithm: SigningAlgorithm) -> padding.AsymmetricPadding:
    if algorithm.startswith("RSASSA_PSS_"):
        # RFC 7518, section 3.5 requires a salt as long as the hash, and the service uses that.
        return padding.PSS(padding.MGF1(algorithm.hash), padding.PSS.DIGEST_LENGTH)
    return padding.PKCS1v15()
