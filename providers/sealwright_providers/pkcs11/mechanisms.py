"""JWS algorithms as mechanisms of PKCS#11, always with explicit parameters: without them python-pkcs11 takes SHA-1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from pkcs11 import MGF, KeyType, Mechanism

from sealwright.jose.algorithms import Algorithm, Scheme

# RFC 8017 §9.2, note 1: the DigestInfo of a hash, up to the digest.
_DIGEST_INFO: Final = MappingProxyType(
    {
        "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
        "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
        "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
    }
)


@dataclass(frozen=True, slots=True)
class _Hash:
    hash: Mechanism
    mgf: MGF
    rsa: Mechanism
    pss: Mechanism
    ecdsa: Mechanism
    hmac: Mechanism


_HASHES: Final = MappingProxyType(
    {
        "sha256": _Hash(
            Mechanism.SHA256,
            MGF.SHA256,
            Mechanism.SHA256_RSA_PKCS,
            Mechanism.SHA256_RSA_PKCS_PSS,
            Mechanism.ECDSA_SHA256,
            Mechanism.SHA256_HMAC,
        ),
        "sha384": _Hash(
            Mechanism.SHA384,
            MGF.SHA384,
            Mechanism.SHA384_RSA_PKCS,
            Mechanism.SHA384_RSA_PKCS_PSS,
            Mechanism.ECDSA_SHA384,
            Mechanism.SHA384_HMAC,
        ),
        "sha512": _Hash(
            Mechanism.SHA512,
            MGF.SHA512,
            Mechanism.SHA512_RSA_PKCS,
            Mechanism.SHA512_RSA_PKCS_PSS,
            Mechanism.ECDSA_SHA512,
            Mechanism.SHA512_HMAC,
        ),
    }
)

_EC_PARAMS: Final = MappingProxyType(
    {
        "P-256": bytes.fromhex("06082a8648ce3d030107"),
        "P-384": bytes.fromhex("06052b81040022"),
        "P-521": bytes.fromhex("06052b81040023"),
        "secp256k1": bytes.fromhex("06052b8104000a"),
        "Ed25519": bytes.fromhex("06032b6570"),
    }
)
"""CKA_EC_PARAMS by JWK curve: a named curve, DER (v2.40 §2.3.3; v3.0 §2.3.5 for Edwards curves)."""

_ED25519_NAME: Final = bytes.fromhex("130c656477617264733235353139")
"""PrintableString "edwards25519": the other way to say it (v3.0 §2.3.5)."""


@dataclass(frozen=True, slots=True)
class SignCall:
    """A way to make a signature.

    Attributes:
        mechanism: For C_SignInit.
        parameter: Its parameter; None: it has none.
        data: What C_Sign is given, made from the message.
        whole: That is the message itself.
    """

    mechanism: Mechanism
    parameter: tuple[Any, ...] | None
    data: Callable[[bytes], bytes]
    whole: bool


def sign_calls(algorithm: Algorithm, offered: frozenset[int]) -> list[SignCall]:
    """Return the ways to sign that a token offers: first the one that takes a digest, then the one that takes the message.

    Some tokens offer only one of them (v2.40 §2.1.8, §2.1.10 to §2.1.13, §2.3.6; v3.0 §2.3.14).

    Args:
        algorithm: The JWS algorithm.
        offered: What C_GetMechanismList says.
    """

    def digest_info(message: bytes) -> bytes:
        assert algorithm.hash is not None  # noqa: S101 - of RSA, for the type checker
        return _DIGEST_INFO[algorithm.hash.name] + algorithm.digest(message)

    calls: list[SignCall] = []
    if algorithm.scheme is Scheme.EDDSA:
        # Without a parameter it is pure Ed25519, as RFC 8037 wants it.
        calls.append(SignCall(Mechanism.EDDSA, None, _as_it_is, whole=True))
    elif algorithm.hash is not None:
        h = _HASHES[algorithm.hash.name]
        match algorithm.scheme:
            case Scheme.RSA_PKCS1:
                calls.append(SignCall(Mechanism.RSA_PKCS, None, digest_info, whole=False))
                calls.append(SignCall(h.rsa, None, _as_it_is, whole=True))
            case Scheme.RSA_PSS:
                parameter = (h.hash, h.mgf, algorithm.hash.digest_size)
                calls.append(SignCall(Mechanism.RSA_PKCS_PSS, parameter, algorithm.digest, whole=False))
                calls.append(SignCall(h.pss, parameter, _as_it_is, whole=True))
            case Scheme.ECDSA:
                calls.append(SignCall(Mechanism.ECDSA, None, algorithm.digest, whole=False))
                calls.append(SignCall(h.ecdsa, None, _as_it_is, whole=True))
            case Scheme.HMAC:
                calls.append(SignCall(h.hmac, None, _as_it_is, whole=True))
    return [call for call in calls if int(call.mechanism) in offered]


@dataclass(frozen=True, slots=True)
class Generation:
    """How to generate a key pair on a curve.

    Attributes:
        key_type: CKA_KEY_TYPE.
        mechanism: For C_GenerateKeyPair.
        ec_params: CKA_EC_PARAMS.
    """

    key_type: KeyType
    mechanism: Mechanism
    ec_params: bytes


def curve_generation(crv: str) -> Generation:
    """Return how a key pair on the curve of a JWK is generated."""
    edwards = crv == "Ed25519"
    return Generation(
        KeyType.EC_EDWARDS if edwards else KeyType.EC,
        Mechanism.EC_EDWARDS_KEY_PAIR_GEN if edwards else Mechanism.EC_KEY_PAIR_GEN,
        _EC_PARAMS[crv],
    )


def curve_of(ec_params: bytes) -> str | None:
    """Return the `crv` of CKA_EC_PARAMS; None: another curve, or one that is spelt out."""
    if ec_params == _ED25519_NAME:
        return "Ed25519"
    return next((crv for crv, params in _EC_PARAMS.items() if params == ec_params), None)


def _as_it_is(message: bytes) -> bytes:
    return message
