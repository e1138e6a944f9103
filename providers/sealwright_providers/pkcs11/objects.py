"""Finds, reads, generates and destroys keys as objects of a token. All of it runs in a lane, with a session that is logged in."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Final

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass

from sealwright.provider import (
    ALGORITHMS,
    KeyFormatError,
    KeySpec,
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
    load_public_key,
)
from sealwright_providers.pkcs11.labels import carries, exact_label, label_of
from sealwright_providers.pkcs11.mechanisms import CURVES, curve_of, sign_calls
from sealwright_providers.pkcs11.public_keys import curve_key, rsa_key, spki
from sealwright_providers.pkcs11.token import PUBLIC_KEY_INFO
from sealwright_providers.pkcs11.uri import KeyName

ID_BYTES: Final = 16
"""Size of the random CKA_ID of a new key. AWS CloudHSM does not allow changing it later."""

_HMAC_TYPES: Final = frozenset({KeyType.GENERIC_SECRET, KeyType.SHA256_HMAC, KeyType.SHA384_HMAC, KeyType.SHA512_HMAC})
_CURVE_TYPES: Final = frozenset({KeyType.EC, KeyType.EC_EDWARDS})
_KEY_TYPES: Final = {"RSA": {KeyType.RSA}, "EC": _CURVE_TYPES, "OKP": _CURVE_TYPES, "oct": _HMAC_TYPES}
"""CKA_KEY_TYPE by the JWK's `kty`."""
_SIGN_ONLY: Final = MechanismFlag.SIGN | MechanismFlag.VERIFY
_OWN: Final = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
"""Attributes of every private or secret key that we generate. `_SIGN_ONLY` says what it may be used for."""


def find_key(session: pkcs11.Session, name: KeyName) -> Any:
    """Return a private or secret key, found by CKA_ID and CKA_CLASS. The label is not used: two keys can have the same.

    Raises:
        ProviderKeyMissingError: There is none.
        ProviderKeyDisabledError: There are several, so that it is not clear which one is meant.
    """
    found = _with_id(session, _class_of(name), name.key_id)
    if not found:
        raise ProviderKeyMissingError("the token has no key with that CKA_ID")
    if len(found) > 1:
        raise ProviderKeyDisabledError(
            "several keys of the token have the same CKA_ID, so none of them is used; remove or renumber the others"
        )
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


def read_public(session: pkcs11.Session, name: KeyName, offered: frozenset[int]) -> tuple[bytes | None, frozenset[str]]:
    """Return a key's public half as SubjectPublicKeyInfo (None for a secret key), and the JWS algorithms that it can sign with.

    Args:
        session: A session.
        name: The key.
        offered: Mechanisms of the token.

    Raises:
        ProviderKeyMissingError: There is no such key.
        ProviderKeyDisabledError: It may not sign (CKA_SIGN), or there are several.
        ProviderUnsupportedError: No JWS algorithm uses such a key, or its public half cannot be read.
    """
    key = find_key(session, name)
    attributes = _read(key, (Attribute.KEY_TYPE, Attribute.SIGN, Attribute.VALUE_LEN, Attribute.ALWAYS_AUTHENTICATE))
    if not attributes.get(Attribute.SIGN):
        raise ProviderKeyDisabledError("CKA_SIGN of the key in the token is false")
    if attributes.get(Attribute.ALWAYS_AUTHENTICATE):
        raise ProviderUnsupportedError(
            "the key in the token asks for the PIN before every signature (CKA_ALWAYS_AUTHENTICATE is true)"
        )
    kind = attributes.get(Attribute.KEY_TYPE)
    usable = [algorithm for algorithm in ALGORITHMS.values() if sign_calls(algorithm, offered)]
    if name.secret:
        size = attributes.get(Attribute.VALUE_LEN, 0) if kind in _HMAC_TYPES else 0
        # RFC 7518 §3.2: the key must be at least as long as the hash.
        return None, frozenset(a.name for a in usable if a.symmetric and size >= a.signature_size(None))
    try:
        public = _public_half(session, key, name, kind)
        known = load_public_key(public)
    except KeyFormatError:
        raise ProviderUnsupportedError(
            "the key in the token has a type, curve, size or exponent that no JWS algorithm uses"
        ) from None
    return public, frozenset(a.name for a in usable if a.fits(known))


def is_local(session: pkcs11.Session, name: KeyName) -> bool:
    """Tell whether the token itself generated a key (CKA_LOCAL, v2.40 §4.4). An imported or copied key may exist elsewhere."""
    return _read(find_key(session, name), (Attribute.LOCAL,)).get(Attribute.LOCAL) is True


def fitting(key: Any) -> frozenset[str]:
    """Return the JWS algorithms that fit a private or secret key by its type and curve.

    Modules need not check this: SoftHSM returns CKR_GENERAL_ERROR for a mechanism of another type, as if it were broken.
    """
    attributes = _read(key, (Attribute.KEY_TYPE, Attribute.EC_PARAMS))
    kind = attributes.get(Attribute.KEY_TYPE)
    # In some modules only the public key has them. Then any curve fits.
    crv = curve_of(attributes[Attribute.EC_PARAMS]) if attributes.get(Attribute.EC_PARAMS) else None

    return frozenset(
        a.name for a in ALGORITHMS.values() if kind in _KEY_TYPES.get(a.kind.kty, ()) and crv in {None, a.kind.name}
    )


def may_sign(key: Any) -> bool:
    """Tell whether a key had CKA_SIGN when it was found."""
    return isinstance(key, pkcs11.SignMixin)


def is_enabled(key: Any) -> bool:
    """Tell whether a key has CKA_SIGN now."""
    return bool(_read(key, (Attribute.SIGN,)).get(Attribute.SIGN))


def generate(session: pkcs11.Session, spec: KeySpec) -> KeyName:
    """Generate a key in the token: sensitive, not extractable, and for signing only.

    Raises:
        ProviderUnsupportedError: The token does not generate such keys, or ignored the template. Then the key is destroyed again.
        PKCS11Error: The module refused or failed.
    """
    key_id, label = secrets.token_bytes(ID_BYTES), label_of(spec.tags)
    common: dict[str, Any] = {"id": key_id, "label": label, "store": True, "capabilities": _SIGN_ONLY}
    made = _GENERATORS[spec.algorithm.kind.kty](session, spec, common)
    attributes = _read(made[-1], tuple(_OWN))
    if attributes != _OWN:
        _destroy(made)
        raise ProviderUnsupportedError("the token ignored that new keys must be sensitive and not extractable")
    return KeyName(key_id, spec.algorithm.symmetric)


def destroy(session: pkcs11.Session, name: KeyName) -> None:
    """Destroy a key, and then its public half. Succeeds if they no longer exist.

    Raises:
        ProviderUnsupportedError: Sealwright did not create it.
        ProviderKeyDisabledError: There are several with that name.
    """
    keys = _with_id(session, _class_of(name), name.key_id)
    if len(keys) > 1:
        raise ProviderKeyDisabledError("several keys of the token have the same CKA_ID, so none of them is destroyed")
    public = [] if name.secret else _with_id(session, ObjectClass.PUBLIC_KEY, name.key_id)
    doomed = [*keys, *public]
    if not all(carries(_read(key, (Attribute.LABEL,)).get(Attribute.LABEL, ""), {}) for key in doomed):
        raise ProviderUnsupportedError(
            "PKCS#11 destroys at once, so a key that Sealwright did not create must be destroyed by its owner"
        )
    _destroy(doomed)


def forbid_signing(session: pkcs11.Session, name: KeyName) -> None:
    """Set CKA_SIGN to false, and read it again.

    Raises:
        ProviderUnsupportedError: The token does not allow the change.
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
        raise ProviderUnsupportedError("the token does not allow changing CKA_SIGN") from None
    if is_enabled(find_key(session, name)):
        raise ProviderUnsupportedError("the token reported success, but did not change CKA_SIGN")


def _generate_secret(session: pkcs11.Session, spec: KeySpec, common: dict[str, Any]) -> tuple[Any, ...]:
    bits = 8 * spec.algorithm.signature_size(None)
    mechanism = Mechanism.GENERIC_SECRET_KEY_GEN
    return (session.generate_key(KeyType.GENERIC_SECRET, bits, mechanism=mechanism, template=_OWN, **common),)


def _generate_curve(session: pkcs11.Session, spec: KeySpec, common: dict[str, Any]) -> tuple[Any, ...]:
    how = CURVES[spec.algorithm.kind.name]
    curve = session.create_domain_parameters(how.key_type, {Attribute.EC_PARAMS: how.ec_params}, local=True)
    return curve.generate_keypair(mechanism=how.mechanism, private_template=_OWN, **common)


def _generate_rsa(session: pkcs11.Session, spec: KeySpec, common: dict[str, Any]) -> tuple[Any, ...]:
    mechanism = Mechanism.RSA_PKCS_KEY_PAIR_GEN
    return session.generate_keypair(KeyType.RSA, spec.rsa_bits, mechanism=mechanism, private_template=_OWN, **common)


_GENERATORS: Final = {"RSA": _generate_rsa, "EC": _generate_curve, "OKP": _generate_curve, "oct": _generate_secret}
"""By the JWK's `kty`. Each returns the objects that it generated, the private or secret key last."""


def _public_half(session: pkcs11.Session, key: Any, name: KeyName, kind: Any) -> bytes:
    """Read the public key object, or else the public attributes of the private key, or else its CKA_PUBLIC_KEY_INFO."""
    objects = _with_id(session, ObjectClass.PUBLIC_KEY, name.key_id)
    if len(objects) > 1:
        raise ProviderKeyDisabledError("several public keys of the token have the same CKA_ID, so none of them is used")
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
    # Some modules ignore parts of a template that they cannot search by.
    if any(_read(key, (Attribute.ID,)).get(Attribute.ID) != key_id for key in found):
        raise ProviderUnavailableError("the PKCS#11 module returned a different key from the one requested")
    return found


def _read(key: Any, attributes: Iterable[int]) -> dict[int, Any]:
    """Return those of the attributes that the object has and reveals."""
    wanted = tuple(attributes)
    try:
        found = dict(key.get_attributes(wanted))
    except (pkcs11.AttributeTypeInvalid, pkcs11.AttributeSensitive, pkcs11.FunctionFailed):
        found = {}
    # Some modules return nothing if one of several attributes is missing.
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
