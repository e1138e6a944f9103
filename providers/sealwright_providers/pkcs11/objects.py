"""Keys as objects of a token: looked for, read, made and destroyed. All of it runs in a lane, with a session that is logged in."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Final

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass

from sealwright.errors import (
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
)
from sealwright.jose.algorithms import ALGORITHMS, Algorithm, Scheme
from sealwright.jose.jwk import KeyFormatError, load_public_key
from sealwright.kms.provider import KeySpec
from sealwright_providers.pkcs11.labels import carries, exact_label, label_of
from sealwright_providers.pkcs11.mechanisms import curve_generation, curve_of, sign_calls
from sealwright_providers.pkcs11.public_keys import curve_key, rsa_key, spki
from sealwright_providers.pkcs11.token import PUBLIC_KEY_INFO
from sealwright_providers.pkcs11.uri import KeyName

ID_BYTES: Final = 16
"""Of the random CKA_ID of a new key. AWS CloudHSM lets nobody change it later."""

_HMAC_TYPES: Final = frozenset({KeyType.GENERIC_SECRET, KeyType.SHA256_HMAC, KeyType.SHA384_HMAC, KeyType.SHA512_HMAC})
_CURVE_TYPES: Final = frozenset({KeyType.EC, KeyType.EC_EDWARDS})
_SIGN_ONLY: Final = MechanismFlag.SIGN | MechanismFlag.VERIFY
_OWN: Final = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
"""Of every private or secret key that is made here; what a key may be used for is in `_SIGN_ONLY`."""


def find_key(session: pkcs11.Session, name: KeyName) -> Any:
    """Return a private or secret key, found by CKA_ID and CKA_CLASS. A label is no name: two keys can have the same.

    Raises:
        ProviderKeyMissingError: There is none.
        ProviderKeyDisabledError: There are several, so that none is the one that is meant.
    """
    found = _with_id(session, _class_of(name), name.key_id)
    if not found:
        raise ProviderKeyMissingError("the token has no such key")
    if len(found) > 1:
        raise ProviderKeyDisabledError("several keys of the token have that CKA_ID; none of them is used")
    return found[0]


def find_names(session: pkcs11.Session, tags: Mapping[str, str]) -> list[KeyName]:
    """Return the names of the keys that carry all these tags."""
    label = exact_label(tags)
    names = []
    for kind in (ObjectClass.PRIVATE_KEY, ObjectClass.SECRET_KEY):
        template: dict[Attribute, Any] = {Attribute.CLASS: kind}
        if label is not None:
            template[Attribute.LABEL] = label
        for key in list(session.get_objects(template)):
            attributes = _read(key, (Attribute.ID, Attribute.LABEL))
            if attributes.get(Attribute.ID) and carries(attributes.get(Attribute.LABEL, ""), tags):
                names.append(KeyName(attributes[Attribute.ID], kind is ObjectClass.SECRET_KEY))
    return names


def read_public(session: pkcs11.Session, name: KeyName, offered: frozenset[int]) -> tuple[bytes, frozenset[str]]:
    """Return a key's public half as SubjectPublicKeyInfo (empty for a secret key), and the JWS algorithms that it can sign with.

    Args:
        session: A session.
        name: The key.
        offered: Mechanisms of the token.

    Raises:
        ProviderKeyMissingError: There is no such key.
        ProviderKeyDisabledError: It may not sign (CKA_SIGN), or there are several.
        ProviderUnsupportedError: It is of a kind that is not used here, or its public half is not to be had.
    """
    key = find_key(session, name)
    attributes = _read(key, (Attribute.KEY_TYPE, Attribute.SIGN, Attribute.VALUE_LEN, Attribute.ALWAYS_AUTHENTICATE))
    if not attributes.get(Attribute.SIGN):
        raise ProviderKeyDisabledError("the key of the token may not sign (CKA_SIGN)")
    if attributes.get(Attribute.ALWAYS_AUTHENTICATE):
        raise ProviderUnsupportedError(
            "the key of the token wants the PIN for every signature (CKA_ALWAYS_AUTHENTICATE)"
        )
    kind = attributes.get(Attribute.KEY_TYPE)
    usable = [algorithm for algorithm in ALGORITHMS.values() if sign_calls(algorithm, offered)]
    if name.secret:
        size = attributes.get(Attribute.VALUE_LEN, 0) if kind in _HMAC_TYPES else 0
        # RFC 7518 §3.2: the key is at least as long as the hash.
        return b"", frozenset(
            a.name for a in usable if a.scheme is Scheme.HMAC and a.hash and size >= a.hash.digest_size
        )
    try:
        public = _public_half(session, key, name, kind)
        known = load_public_key(public)
    except KeyFormatError:
        raise ProviderUnsupportedError("the token's key is of a kind, curve or size that is not used here") from None
    return public, frozenset(a.name for a in usable if a.fits(known))


def fitting(key: Any) -> frozenset[str]:
    """Return the JWS algorithms that fit a private or secret key by its type and curve.

    A module need not look: SoftHSM answers CKR_GENERAL_ERROR to a mechanism for another type, as if it were broken.
    """
    attributes = _read(key, (Attribute.KEY_TYPE, Attribute.EC_PARAMS))
    kind = attributes.get(Attribute.KEY_TYPE)
    # Of some modules the public key alone has them; then any curve fits.
    crv = curve_of(attributes[Attribute.EC_PARAMS]) if attributes.get(Attribute.EC_PARAMS) else None

    def fits(algorithm: Algorithm) -> bool:
        match algorithm.scheme:
            case Scheme.RSA_PKCS1 | Scheme.RSA_PSS:
                return kind is KeyType.RSA
            case Scheme.ECDSA | Scheme.EDDSA:
                return kind in _CURVE_TYPES and crv in {None, algorithm.crv}
            case Scheme.HMAC:
                return kind in _HMAC_TYPES

    return frozenset(algorithm.name for algorithm in ALGORITHMS.values() if fits(algorithm))


def may_sign(key: Any) -> bool:
    """Tell whether a key had CKA_SIGN when it was found."""
    return isinstance(key, pkcs11.SignMixin)


def is_enabled(key: Any) -> bool:
    """Tell whether a key has CKA_SIGN now."""
    return bool(_read(key, (Attribute.SIGN,)).get(Attribute.SIGN))


def generate(session: pkcs11.Session, spec: KeySpec) -> KeyName:
    """Generate a key in the token: sensitive, not extractable, and for signing only.

    Raises:
        ProviderUnsupportedError: The token has no such keys, or did not obey; what it made is destroyed again.
        PKCS11Error: As the module says.
    """
    key_id, label = secrets.token_bytes(ID_BYTES), label_of(spec.tags)
    common: dict[str, Any] = {"id": key_id, "label": label, "store": True, "capabilities": _SIGN_ONLY}
    algorithm = spec.algorithm
    if algorithm.scheme is Scheme.HMAC:
        made: tuple[Any, ...] = (_generate_secret(session, algorithm, common),)
    elif algorithm.crv is not None:
        how = curve_generation(algorithm.crv)
        curve = session.create_domain_parameters(how.key_type, {Attribute.EC_PARAMS: how.ec_params}, local=True)
        made = curve.generate_keypair(mechanism=how.mechanism, private_template=_OWN, **common)
    else:
        made = session.generate_keypair(
            KeyType.RSA,
            spec.rsa_bits,
            mechanism=Mechanism.RSA_PKCS_KEY_PAIR_GEN,
            private_template=_OWN,
            **common,
        )
    attributes = _read(made[-1], tuple(_OWN))
    if attributes != _OWN:
        _destroy(made)
        raise ProviderUnsupportedError("the token does not keep new keys sensitive and non-extractable")
    return KeyName(key_id, algorithm.scheme is Scheme.HMAC)


def destroy(session: pkcs11.Session, name: KeyName) -> None:
    """Destroy a key, and then its public half. What is not there any more is no error.

    Raises:
        ProviderUnsupportedError: Sealwright has not made it.
        ProviderKeyDisabledError: There are several with that name.
    """
    keys = _with_id(session, _class_of(name), name.key_id)
    if len(keys) > 1:
        raise ProviderKeyDisabledError("several keys of the token have that CKA_ID; none of them is destroyed")
    public = [] if name.secret else _with_id(session, ObjectClass.PUBLIC_KEY, name.key_id)
    doomed = [*keys, *public]
    if not all(carries(_read(key, (Attribute.LABEL,)).get(Attribute.LABEL, ""), {}) for key in doomed):
        raise ProviderUnsupportedError("a token destroys at once; a key that was made elsewhere is left to its owner")
    _destroy(doomed)


def forbid_signing(session: pkcs11.Session, name: KeyName) -> None:
    """Set CKA_SIGN to false, and see that it is.

    Raises:
        ProviderUnsupportedError: The token does not let it be changed.
    """
    key = find_key(session, name)
    try:
        key[Attribute.SIGN] = False
    except (
        pkcs11.AttributeReadOnly,
        pkcs11.AttributeTypeInvalid,
        pkcs11.AttributeValueInvalid,
        pkcs11.FunctionNotSupported,
        pkcs11.TemplateInconsistent,
    ):
        raise ProviderUnsupportedError("the token does not let CKA_SIGN be changed") from None
    if is_enabled(find_key(session, name)):
        raise ProviderUnsupportedError("the token says that it has changed CKA_SIGN, and has not")


def _generate_secret(session: pkcs11.Session, algorithm: Algorithm, common: dict[str, Any]) -> Any:
    assert algorithm.hash is not None  # noqa: S101 - of HMAC, for the type checker
    return session.generate_key(
        KeyType.GENERIC_SECRET,
        algorithm.hash.digest_size * 8,
        mechanism=Mechanism.GENERIC_SECRET_KEY_GEN,
        template=_OWN,
        **common,
    )


def _public_half(session: pkcs11.Session, key: Any, name: KeyName, kind: Any) -> bytes:
    """Read the public key object, or else what the private one says of it: its own attributes, or CKA_PUBLIC_KEY_INFO."""
    objects = _with_id(session, ObjectClass.PUBLIC_KEY, name.key_id)
    if len(objects) > 1:
        raise ProviderKeyDisabledError("several public keys of the token have that CKA_ID; none of them is used")
    for source in (*objects, key):
        if kind is KeyType.RSA:
            half = _read(source, (Attribute.MODULUS, Attribute.PUBLIC_EXPONENT))
            if half.get(Attribute.MODULUS) and half.get(Attribute.PUBLIC_EXPONENT):
                return spki(rsa_key(half[Attribute.MODULUS], half[Attribute.PUBLIC_EXPONENT]))
        elif kind in _CURVE_TYPES:
            half = _read(source, (Attribute.EC_PARAMS, Attribute.EC_POINT))
            if half.get(Attribute.EC_POINT):
                return spki(curve_key(curve_of(half.get(Attribute.EC_PARAMS, b"")) or "", half[Attribute.EC_POINT]))
    info: bytes = _read(key, (PUBLIC_KEY_INFO,)).get(PUBLIC_KEY_INFO, b"")
    if not info:
        raise ProviderUnsupportedError("the token has no public key with that CKA_ID")
    return info


def _class_of(name: KeyName) -> ObjectClass:
    return ObjectClass.SECRET_KEY if name.secret else ObjectClass.PRIVATE_KEY


def _with_id(session: pkcs11.Session, kind: ObjectClass, key_id: bytes) -> list[Any]:
    found = list(session.get_objects({Attribute.CLASS: kind, Attribute.ID: key_id}))
    # Some modules ignore parts of a template that they do not know how to search by.
    if any(_read(key, (Attribute.ID,)).get(Attribute.ID) != key_id for key in found):
        raise ProviderUnavailableError("the PKCS#11 module found another key than the one that was asked for")
    return found


def _read(key: Any, attributes: Iterable[int]) -> dict[int, Any]:
    """Return those of the attributes that the object has and shows."""
    wanted = tuple(attributes)
    try:
        found = dict(key.get_attributes(wanted))
    except (pkcs11.AttributeTypeInvalid, pkcs11.AttributeSensitive, pkcs11.FunctionFailed):
        found = {}
    # Some modules answer nothing at all where they cannot answer one of several.
    for attribute in wanted:
        if attribute not in found:
            try:
                found[attribute] = key[attribute]
            except (pkcs11.AttributeTypeInvalid, pkcs11.AttributeSensitive, pkcs11.FunctionFailed, IndexError):
                continue
    return found


def _destroy(keys: Iterable[Any]) -> None:
    for key in keys:
        key.destroy()
