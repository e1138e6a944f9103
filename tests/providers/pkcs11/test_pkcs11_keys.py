from __future__ import annotations

from functools import partial
from typing import Any

import pkcs11
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
)
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from pkcs11.util.ec import decode_ec_private_key, decode_ec_public_key

from providers.pkcs11.pkcs11_support import (
    DEPLOYMENT,
    ES256,
    INTENT,
    SECONDS,
    created,
    guarded,
    in_token,
    opened,
    signed,
)
from sealwright.errors import (
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
    SignatureRejectedError,
)
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.keys.trial import try_key
from sealwright.provider import KeyCreator, KeyDeleter, KeyDisabler, KeyFinder, KeySpec, Protection
from sealwright_providers.pkcs11.objects import generate
from sealwright_providers.pkcs11.provider import Pkcs11Provider
from sealwright_testing.nss import NssToken
from sealwright_testing.softhsm import SoftHsm, run_tool

SIGN_ONLY = {
    Attribute.SIGN: True,
    Attribute.DECRYPT: False,
    Attribute.UNWRAP: False,
    Attribute.SENSITIVE: True,
    Attribute.ALWAYS_SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.NEVER_EXTRACTABLE: True,
    Attribute.LOCAL: True,
    Attribute.PRIVATE: True,
    Attribute.TOKEN: True,
}
SECRET = pytest.mark.parametrize("name", ["RS256", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS512"])


def attributes_of(session: pkcs11.Session, kind: ObjectClass, names: list[Attribute]) -> list[dict[Any, Any]]:
    return [key.get_attributes(names) for key in list(session.get_objects({Attribute.CLASS: kind}))]


async def generated(provider: Pkcs11Provider, name: str, expected: dict[Attribute, bool]) -> None:
    await created(provider, name)
    kind = ObjectClass.SECRET_KEY if name.startswith("HS") else ObjectClass.PRIVATE_KEY
    names = [*expected, Attribute.LABEL, Attribute.ID]
    (found,) = await in_token(provider, lambda session: attributes_of(session, kind, names))
    assert found.pop(Attribute.LABEL) == "sealwright:d1:i1"
    assert len(found.pop(Attribute.ID)) == 16
    assert found == expected


@SECRET
async def test_generated_keys_are_sensitive_non_extractable_local_and_sign_only(
    provider: Pkcs11Provider, name: str
) -> None:
    more = {Attribute.ENCRYPT: False, Attribute.WRAP: False} if name.startswith("HS") else {}
    await generated(provider, name, {**SIGN_ONLY, **more})


async def test_nss_generates_such_keys_too(nss: NssToken) -> None:
    # For keys in its database softokn does not report where they were generated.
    async with opened(nss.settings()) as provider:
        await generated(provider, "ES256", {**SIGN_ONLY, Attribute.LOCAL: False})


async def test_what_is_generated_is_what_was_asked_for(provider: Pkcs11Provider) -> None:
    spec = KeySpec(algorithm=ALGORITHMS["RS256"], rsa_bits=3072)
    key = await provider.create(spec, timeout=60)
    public = load_der_public_key(key.public_key or b"")
    assert isinstance(public, rsa.RSAPublicKey)
    assert (public.key_size, public.public_numbers().e) == (3072, 65537)
    assert key.protection is Protection.SOFTWARE
    assert key == await provider.describe(key.uri, timeout=SECONDS)


@pytest.mark.parametrize("protection", [Protection.HSM, Protection.EXTERNAL])
async def test_f22_a_software_token_creates_no_key_for_another_protection(
    provider: Pkcs11Provider, protection: Protection
) -> None:
    tags = {"sealwright:deployment": "f22", "sealwright:intent": protection.value}
    with pytest.raises(ProviderUnsupportedError, match=f"asks for {protection}"):
        await provider.create(KeySpec(algorithm=ES256, protection=protection, tags=tags), timeout=SECONDS)
    assert not await provider.find(tags, timeout=SECONDS)


def test_a_key_that_the_token_does_not_protect_is_destroyed_again() -> None:
    destroyed = []

    class Key:
        def get_attributes(self, _names: Any) -> dict[Any, Any]:
            return {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: True}

        def destroy(self) -> None:
            destroyed.append(self)

    class Session:
        def generate_keypair(self, *_: Any, **__: Any) -> tuple[Key, Key]:
            return Key(), Key()

    with pytest.raises(ProviderUnsupportedError, match="not extractable"):
        generate(Session(), KeySpec(algorithm=ALGORITHMS["RS256"]))  # type: ignore[arg-type]
    assert len(destroyed) == 2


def test_the_provider_has_every_capability(provider: Pkcs11Provider) -> None:
    for capability in (KeyCreator, KeyFinder, KeyDisabler, KeyDeleter):
        assert isinstance(provider, capability)


async def test_keys_are_found_by_deployment_and_intent(provider: Pkcs11Provider) -> None:
    one = await created(provider)
    two = await created(provider, "HS256", **{INTENT: "i2"})
    await created(provider, **{DEPLOYMENT: "d2"})
    find = provider.find
    assert await find({DEPLOYMENT: "d1", INTENT: "i1"}, timeout=SECONDS) == [one.uri]
    assert await find({DEPLOYMENT: "d1", INTENT: "i2"}, timeout=SECONDS) == [two.uri]
    assert set(await find({DEPLOYMENT: "d1"}, timeout=SECONDS)) == {one.uri, two.uri}
    assert len(await find({}, timeout=SECONDS)) == 3
    assert await find({DEPLOYMENT: "d", INTENT: "i1"}, timeout=SECONDS) == []
    with pytest.raises(ProviderUnsupportedError):
        await find({"colour": "red"}, timeout=SECONDS)


async def test_a_disabled_key_signs_no_more_until_it_is_enabled(provider: Pkcs11Provider) -> None:
    key = await created(provider)
    await signed(provider, key)
    await provider.disable(key.uri, timeout=SECONDS)
    await provider.disable(key.uri, timeout=SECONDS)
    for _ in range(20):
        with pytest.raises(ProviderKeyDisabledError):
            await signed(provider, key)
    with pytest.raises(ProviderKeyDisabledError):
        await provider.describe(key.uri, timeout=SECONDS)

    def enable(session: pkcs11.Session) -> None:
        for found in list(session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})):
            found[Attribute.SIGN] = True

    await in_token(provider, enable)
    for _ in range(20):
        await signed(provider, key)


async def test_nss_disables_too(nss: NssToken) -> None:
    async with opened(nss.settings()) as provider:
        key = await created(provider)
        await signed(provider, key)
        await provider.disable(key.uri, timeout=SECONDS)
        for _ in range(3):
            with pytest.raises(ProviderKeyDisabledError):
                await signed(provider, key)


@SECRET
async def test_a_deleted_key_is_gone_at_once(provider: Pkcs11Provider, name: str) -> None:
    key = await created(provider, name)
    await provider.schedule_deletion(key.uri, timeout=SECONDS)
    await provider.schedule_deletion(key.uri, timeout=SECONDS)
    for kind in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY, ObjectClass.SECRET_KEY):
        assert await in_token(provider, partial(attributes_of, kind=kind, names=[Attribute.ID])) == []
    with pytest.raises(ProviderKeyMissingError):
        await provider.sign(key.uri, ALGORITHMS[name], b"h.p", timeout=SECONDS)
    with pytest.raises(ProviderKeyMissingError):
        await provider.describe(key.uri, timeout=SECONDS)


async def test_a_key_that_was_made_elsewhere_is_used_and_never_destroyed(
    provider: Pkcs11Provider, hsm: SoftHsm
) -> None:
    await provider.check(timeout=SECONDS)
    login = ["--module", hsm.module, "--token-label", hsm.label, "--login", "--pin", hsm.pin]
    command = ["--keypairgen", "--key-type", "EC:prime256v1", "--id", "0a41", "--label", "theirs"]
    run_tool(["pkcs11-tool", *login, *command], {})
    key = await provider.describe("pkcs11:token=sealwright;id=%0a%41;type=private", timeout=SECONDS)
    assert key.uri == "pkcs11:token=sealwright;id=%0A%41;type=private"
    await signed(provider, key)
    with pytest.raises(ProviderUnsupportedError, match="did not create"):
        await provider.schedule_deletion(key.uri, timeout=SECONDS)
    await signed(provider, key)


async def test_a_key_that_is_deleted_elsewhere_is_missing(provider: Pkcs11Provider) -> None:
    key = await created(provider)
    for _ in range(10):
        await signed(provider, key)

    def destroy_all(session: pkcs11.Session) -> None:
        for found in list(session.get_objects()):
            found.destroy()

    await in_token(provider, destroy_all)
    for _ in range(10):
        with pytest.raises(ProviderKeyMissingError):
            await signed(provider, key)


async def test_two_keys_with_one_id_are_both_refused(provider: Pkcs11Provider) -> None:
    key = await created(provider)
    key_id = provider._uris.parse(key.uri).key_id
    other = await created(provider)

    def make_ambiguous(session: pkcs11.Session) -> None:
        other_id = provider._uris.parse(other.uri).key_id
        for found in list(session.get_objects({Attribute.ID: other_id})):
            found.copy({Attribute.ID: key_id})

    await in_token(provider, make_ambiguous)
    for attempt in (
        lambda: provider.sign(key.uri, ES256, b"h.p", timeout=SECONDS),
        lambda: provider.describe(key.uri, timeout=SECONDS),
        lambda: provider.disable(key.uri, timeout=SECONDS),
        lambda: provider.schedule_deletion(key.uri, timeout=SECONDS),
    ):
        with pytest.raises(ProviderKeyDisabledError, match="several keys"):
            await attempt()
    await signed(provider, other)


async def test_two_tokens_with_one_label_are_both_refused_and_told_apart_by_serial(hsm: SoftHsm) -> None:
    hsm.init_token(hsm.label)
    async with opened(hsm.settings()) as provider:
        with pytest.raises(ProviderUnavailableError, match="token_serial"):
            await provider.check(timeout=SECONDS)
        slots = provider._process.module.library.get_slots()
        serials = [slot.get_token().serial.decode() for slot in slots if slot.get_token().label == hsm.label]
    assert len(serials) == 2
    for serial in serials:
        async with opened(hsm.settings(token_label=None, token_serial=serial)) as provider:
            key = await created(provider)
            assert key.uri.startswith(f"pkcs11:serial={serial};id=")
            await signed(provider, key)
            with pytest.raises(ProviderUnsupportedError):
                await provider.describe(key.uri.replace("serial", "token"), timeout=SECONDS)


async def test_the_public_half_of_an_rsa_key_is_read_from_the_private_one_where_there_is_no_other(
    provider: Pkcs11Provider,
) -> None:
    def forget_public(session: pkcs11.Session) -> None:
        for found in list(session.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY})):
            found.destroy()

    key, curve = await created(provider, "RS256"), await created(provider, "ES256")
    await in_token(provider, forget_public)
    assert await provider.describe(key.uri, timeout=SECONDS) == key
    with pytest.raises(ProviderUnsupportedError, match="no public key"):
        await provider.describe(curve.uri, timeout=SECONDS)
    await signed(provider, curve)


async def test_keys_of_other_kinds_are_refused(provider: Pkcs11Provider) -> None:
    def make(session: pkcs11.Session) -> None:
        session.generate_keypair(
            KeyType.RSA, 1024, id=b"\x01", label="small", store=True, mechanism=Mechanism.RSA_PKCS_KEY_PAIR_GEN
        )
        session.generate_key(KeyType.AES, 256, id=b"\x02", label="aes", store=True, mechanism=Mechanism.AES_KEY_GEN)

    await in_token(provider, make)
    with pytest.raises(ProviderUnsupportedError):
        await provider.describe("pkcs11:token=sealwright;id=%01;type=private", timeout=SECONDS)
    key = await provider.describe("pkcs11:token=sealwright;id=%02;type=secret-key", timeout=SECONDS)
    assert key.algorithms == frozenset()


def _put(session: pkcs11.Session, half: dict[Any, Any], key_id: bytes, also: dict[Any, Any]) -> None:
    session.create_object(
        half | {Attribute.TOKEN: True, Attribute.ID: key_id, Attribute.LABEL: "sealwright:d1:i1"} | also
    )


async def test_f12_a_key_that_was_imported_is_found_and_described_as_such(provider: Pkcs11Provider) -> None:
    own = await created(provider)
    assert not (await provider.describe(own.uri, timeout=SECONDS)).imported
    key = ec.generate_private_key(ec.SECP256R1())
    private = decode_ec_private_key(key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    public = decode_ec_public_key(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    also = {Attribute.SIGN: True, Attribute.PRIVATE: True, Attribute.SENSITIVE: True}
    await in_token(provider, lambda session: _put(session, private, b"imported", also=also))
    await in_token(provider, lambda session: _put(session, public, b"imported", also={Attribute.VERIFY: True}))
    found = await provider.find({DEPLOYMENT: "d1", INTENT: "i1"}, timeout=SECONDS)
    (theirs,) = set(found) - {own.uri}
    assert len(found) == 2
    assert (await provider.describe(theirs, timeout=SECONDS)).imported


async def test_f13_a_public_object_of_another_key_is_noticed_by_the_trial(
    provider: Pkcs11Provider, hsm: SoftHsm
) -> None:
    key = await created(provider)
    guard = guarded(provider, hsm.settings())
    await try_key(guard, key, ES256)
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    half = decode_ec_public_key(other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    def swap(session: pkcs11.Session) -> None:
        (held,) = list(session.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY}))
        key_id = held[Attribute.ID]
        held.destroy()
        _put(session, half, key_id, also={Attribute.VERIFY: True})

    await in_token(provider, swap)
    described = await provider.describe(key.uri, timeout=SECONDS)
    assert described.public_key != key.public_key
    with pytest.raises(SignatureRejectedError):
        await try_key(guard, described, ES256)
