"""JWS algorithms as mechanisms of PKCS#11, always with explicit parameters: without them python-pkcs11 uses SHA-1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from pkcs11 import MGF, KeyType, Mechanism

from sealwright.provider import ALGORITHMS, Algorithm

# RFC 8017 §9.2, note 1: the DigestInfo of a hash, up to the digest.
_SHA256_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")
_SHA384_INFO: Final = bytes.fromhex("3041300d060960864801650304020205000430")
_SHA512_INFO: Final = bytes.fromhex("3051300d060960864801650304020305000440")


@dataclass(frozen=True, slots=True)
class SignCall:
    """One way to make a signature.

    Attributes:
        mechanism: For C_SignInit.
        data: Makes the data for C_Sign from the message.
        whole: Whether that is the message itself.
        parameter: The mechanism's parameter; None: it has none.
    """

    mechanism: Mechanism
    data: Callable[[bytes], bytes]
    whole: bool
    parameter: tuple[Any, ...] | None = None


def _message(mechanism: Mechanism, parameter: tuple[Any, ...] | None = None) -> SignCall:
    return SignCall(mechanism, lambda message: message, whole=True, parameter=parameter)


def _rsa(name: str, info: bytes, whole: Mechanism) -> tuple[SignCall, ...]:
    digest = ALGORITHMS[name].digest
    return (SignCall(Mechanism.RSA_PKCS, lambda message: info + digest(message), whole=False), _message(whole))


def _pss(name: str, whole: Mechanism, parameter: tuple[Mechanism, MGF, int]) -> tuple[SignCall, ...]:
    digest = ALGORITHMS[name].digest
    return (SignCall(Mechanism.RSA_PKCS_PSS, digest, whole=False, parameter=parameter), _message(whole, parameter))


def _ecdsa(name: str, whole: Mechanism) -> tuple[SignCall, ...]:
    return (SignCall(Mechanism.ECDSA, ALGORITHMS[name].digest, whole=False), _message(whole))


_CALLS: Final = MappingProxyType(
    {
        "RS256": _rsa("RS256", _SHA256_INFO, Mechanism.SHA256_RSA_PKCS),
        "RS384": _rsa("RS384", _SHA384_INFO, Mechanism.SHA384_RSA_PKCS),
        "RS512": _rsa("RS512", _SHA512_INFO, Mechanism.SHA512_RSA_PKCS),
        "PS256": _pss("PS256", Mechanism.SHA256_RSA_PKCS_PSS, (Mechanism.SHA256, MGF.SHA256, 32)),
        "PS384": _pss("PS384", Mechanism.SHA384_RSA_PKCS_PSS, (Mechanism.SHA384, MGF.SHA384, 48)),
        "PS512": _pss("PS512", Mechanism.SHA512_RSA_PKCS_PSS, (Mechanism.SHA512, MGF.SHA512, 64)),
        "ES256": _ecdsa("ES256", Mechanism.ECDSA_SHA256),
        "ES384": _ecdsa("ES384", Mechanism.ECDSA_SHA384),
        "ES512": _ecdsa("ES512", Mechanism.ECDSA_SHA512),
        "ES256K": _ecdsa("ES256K", Mechanism.ECDSA_SHA256),
        # Without a parameter it is pure Ed25519, as RFC 8037 requires.
        "EdDSA": (_message(Mechanism.EDDSA),),
        "Ed25519": (_message(Mechanism.EDDSA),),
        "HS256": (_message(Mechanism.SHA256_HMAC),),
        "HS384": (_message(Mechanism.SHA384_HMAC),),
        "HS512": (_message(Mechanism.SHA512_HMAC),),
    }
)
"""By JWS algorithm: first the mechanism that takes a digest, then the one that takes the message. Some tokens offer only one
of them (v2.40 §2.1.8, §2.1.10 to §2.1.13, §2.3.6; v3.0 §2.3.14)."""


def sign_calls(algorithm: Algorithm, offered: frozenset[int]) -> list[SignCall]:
    """Return the ways to sign that a token offers, in order of preference.

    Args:
        algorithm: The JWS algorithm.
        offered: The mechanisms that C_GetMechanismList returns.
    """
    return [call for call in _CALLS.get(algorithm.name, ()) if int(call.mechanism) in offered]


class CurveKeys(NamedTuple):
    """Key pairs on a curve.

    Attributes:
        key_type: CKA_KEY_TYPE.
        mechanism: For C_GenerateKeyPair.
        ec_params: CKA_EC_PARAMS: a named curve, DER (v2.40 §2.3.3; v3.0 §2.3.5 for Edwards curves).
        other_params: The same as a PrintableString (v3.0 §2.3.5); None: it has no such form.
    """

    key_type: KeyType
    mechanism: Mechanism
    ec_params: bytes
    other_params: bytes | None = None


def _weierstrass(ec_params: str) -> CurveKeys:
    return CurveKeys(KeyType.EC, Mechanism.EC_KEY_PAIR_GEN, bytes.fromhex(ec_params))


CURVES: Final = MappingProxyType(
    {
        "P-256": _weierstrass("06082a8648ce3d030107"),
        "P-384": _weierstrass("06052b81040022"),
        "P-521": _weierstrass("06052b81040023"),
        "secp256k1": _weierstrass("06052b8104000a"),
        "Ed25519": CurveKeys(
            KeyType.EC_EDWARDS,
            Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
            bytes.fromhex("06032b6570"),
            bytes.fromhex("130c656477617264733235353139"),  # "edwards25519"
        ),
    }
)
"""By kind of key, which for curves is the JWK's `crv`."""


def curve_of(ec_params: bytes) -> str | None:
    """Return the kind of key with these CKA_EC_PARAMS; None: another curve, or explicit parameters."""
    return next(
        (name for name, curve in CURVES.items() if ec_params in {curve.ec_params, curve.other_params}),
        None,
    )
