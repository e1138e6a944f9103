from __future__ import annotations

import asyncio
import hashlib
import sys
import threading
from typing import Any

import pkcs11
import pytest
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass

from providers.pkcs11.pkcs11_support import (
    ES256,
    RS256,
    SECONDS,
    assert_verified,
    created,
    guarded,
    hmac_of,
    in_token,
    opened,
    signed,
)
from sealwright.errors import MessageTooLargeError, ProviderUnsupportedError
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.jose.signatures import SignatureEncoding, SignatureFormatError, normalise
from sealwright_providers.pkcs11.lanes import Lanes
from sealwright_providers.pkcs11.mechanisms import sign_calls
from sealwright_providers.pkcs11.provider import Pkcs11Provider, _signature
from sealwright_testing.nss import NssToken
from sealwright_testing.pkcs11_faults import FaultyModule
from sealwright_testing.softhsm import SoftHsm

RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
EC = ("ES256", "ES384", "ES512")


async def test_rsa_keys_sign_with_every_rsa_algorithm(provider: Pkcs11Provider) -> None:
    key = await created(provider, "RS256")
    assert key.algorithms == frozenset(RSA)
    for name in RSA:
        await signed(provider, key, name)


@pytest.mark.parametrize("name", [*EC, "ES256K", "EdDSA", "Ed25519"])
async def test_curve_keys_sign(provider: Pkcs11Provider, name: str) -> None:
    key = await created(provider, name)
    names = {"EdDSA", "Ed25519"} if name in {"EdDSA", "Ed25519"} else {name}
    assert key.algorithms == names
    for text in "abc":
        await signed(provider, key, name, text)


@pytest.mark.parametrize("name", ["HS256", "HS384", "HS512"])
async def test_secret_keys_sign(provider: Pkcs11Provider, name: str) -> None:
    size = int(name[2:]) // 8
    secret = bytes(range(size))
    template = {
        Attribute.CLASS: ObjectClass.SECRET_KEY,
        Attribute.KEY_TYPE: KeyType.GENERIC_SECRET,
        Attribute.TOKEN: True,
        Attribute.ID: b"\x01",
        Attribute.VALUE: secret,
        Attribute.SIGN: True,
    }
    await in_token(provider, lambda session: session.create_object(template))
    uri = "pkcs11:token=sealwright;id=%01;type=secret-key"
    key = await provider.describe(uri, timeout=SECONDS)
    assert key.public_key is None
    # RFC 7518 §3.2: the hash must not be longer than the key.
    assert key.algorithms == {hs for hs in ("HS256", "HS384", "HS512") if int(hs[2:]) // 8 <= size}
    raw = await provider.sign(uri, ALGORITHMS[name], b"h.p", timeout=SECONDS)
    assert raw.encoding is SignatureEncoding.OPAQUE
    assert raw.value == hmac_of(secret, name, b"h.p")


async def test_secret_keys_are_generated(provider: Pkcs11Provider) -> None:
    for name in ("HS256", "HS384", "HS512"):
        key = await created(provider, name)
        assert (key.public_key, name in key.algorithms) == (None, True)
        first = await provider.sign(key.uri, ALGORITHMS[name], b"h.p", timeout=SECONDS)
        again = await provider.sign(key.uri, ALGORITHMS[name], b"h.p", timeout=SECONDS)
        other = await provider.sign(key.uri, ALGORITHMS[name], b"h.q", timeout=SECONDS)
        assert first.value == again.value != other.value
        assert len(first.value) == int(name[2:]) // 8


async def test_nss_signs(nss: NssToken) -> None:
    async with opened(nss.settings()) as provider:
        await provider.check(timeout=SECONDS)
        key = await created(provider, "RS256")
        assert key.algorithms == frozenset(RSA)
        for name in RSA:
            await signed(provider, key, name)
        for name in EC:
            await signed(provider, await created(provider, name), name)
        await created(provider, "HS256")
        with pytest.raises(ProviderUnsupportedError):
            await created(provider, "EdDSA")


async def test_nss_has_threads_too(nss: NssToken) -> None:
    async with opened(nss.settings()) as provider:
        key = await created(provider)
        await asyncio.gather(*(signed(provider, key, text=str(n)) for n in range(300)))


async def test_keys_are_used_for_what_they_are(provider: Pkcs11Provider) -> None:
    key = await created(provider, "ES256")
    with pytest.raises(ProviderUnsupportedError):
        await provider.sign(key.uri, RS256, b"h.p", timeout=SECONDS)
    with pytest.raises(ProviderUnsupportedError, match="does not fit HS256"):
        await provider.sign(key.uri, ALGORITHMS["HS256"], b"h.p", timeout=SECONDS)


async def test_a_long_message_is_signed(provider: Pkcs11Provider) -> None:
    message = b"h." + b"p" * 300_000
    for name in ("RS256", "ES256", "EdDSA"):
        key = await created(provider, name)
        raw = await provider.sign(key.uri, ALGORITHMS[name], message, timeout=SECONDS)
        assert_verified(key, ALGORITHMS[name], message, raw)


@pytest.mark.parametrize("size", [62, 71, 63, 0])
def test_c07_a_wrong_length_is_padded_or_refused_by_the_core(size: int) -> None:
    value = bytes(range(1, size + 1))
    if size == 62:
        halves = b"\0" + value[:31] + b"\0" + value[31:]
        assert normalise(value, SignatureEncoding.CONCATENATED, ES256) == halves
    else:
        with pytest.raises(SignatureFormatError):
            normalise(value, SignatureEncoding.CONCATENATED, ES256)


@pytest.mark.parametrize("hidden", [Mechanism.RSA_PKCS_PSS, "SHA_PSS"])
async def test_c119_pss_goes_by_the_mechanism_that_the_token_has(
    fragile: Pkcs11Provider, faults: FaultyModule, hidden: Any
) -> None:
    one_step = (Mechanism.SHA256_RSA_PKCS_PSS, Mechanism.SHA384_RSA_PKCS_PSS, Mechanism.SHA512_RSA_PKCS_PSS)
    faults.hide(*(one_step if hidden == "SHA_PSS" else (hidden,)))
    key = await created(fragile, "PS256")
    assert {"PS256", "PS384", "PS512"} <= key.algorithms
    for name in ("PS256", "PS384", "PS512"):
        await signed(fragile, key, name)


@pytest.mark.parametrize("hidden", [Mechanism.RSA_PKCS, "SHA_RSA"])
async def test_c120_rs_goes_by_the_mechanism_that_the_token_has(
    fragile: Pkcs11Provider, faults: FaultyModule, hidden: Any
) -> None:
    one_step = (Mechanism.SHA256_RSA_PKCS, Mechanism.SHA384_RSA_PKCS, Mechanism.SHA512_RSA_PKCS)
    faults.hide(*(one_step if hidden == "SHA_RSA" else (hidden,)))
    key = await created(fragile, "RS256")
    for name in ("RS256", "RS384", "RS512"):
        await signed(fragile, key, name)


async def test_a_mechanism_that_is_listed_and_refused_has_its_fallback(
    fragile: Pkcs11Provider, faults: FaultyModule
) -> None:
    key = await created(fragile, "PS256")
    await signed(fragile, key, "PS256")
    faults.hide(Mechanism.RSA_PKCS_PSS, Mechanism.RSA_PKCS)
    await signed(fragile, key, "PS256")
    await signed(fragile, key, "RS512")
    faults.hide(Mechanism.RSA_PKCS_PSS, Mechanism.SHA256_RSA_PKCS_PSS)
    with pytest.raises(ProviderUnsupportedError):
        await signed(fragile, key, "PS256")


async def test_what_a_token_has_no_mechanism_for_is_not_offered(fragile: Pkcs11Provider, faults: FaultyModule) -> None:
    faults.hide(Mechanism.RSA_PKCS_PSS, Mechanism.SHA384_RSA_PKCS_PSS, Mechanism.ECDSA, Mechanism.EDDSA)
    assert (await created(fragile, "RS256")).algorithms == {"RS256", "RS384", "RS512", "PS256", "PS512"}
    for name in ("ES256", "EdDSA", "PS384"):
        with pytest.raises(ProviderUnsupportedError, match="does not sign with"):
            await created(fragile, name)


def test_c120_the_digest_info_is_that_of_rfc_8017() -> None:
    (call,) = sign_calls(RS256, frozenset({Mechanism.RSA_PKCS}))
    prefix = bytes.fromhex("3031300d060960864801650304020105000420")
    assert call.data(b"m") == prefix + hashlib.sha256(b"m").digest()


def test_parameters_are_always_explicit() -> None:
    everything = frozenset(int(mechanism) for mechanism in Mechanism)
    for name, size in (("PS256", 32), ("PS384", 48), ("PS512", 64)):
        for call in sign_calls(ALGORITHMS[name], everything):
            assert call.parameter is not None
            assert call.parameter[2] == size
            assert call.parameter[0].name == call.parameter[1].name == f"SHA{name[2:]}"
    assert [c.whole for c in sign_calls(ES256, everything)] == [False, True]


async def test_c125_sixteen_threads_ten_thousand_signatures(hsm: SoftHsm) -> None:
    async with opened(hsm.settings(sessions=16)) as provider:
        key, other = await created(provider), await created(provider)
        # Each waits for all, so that all sixteen work, however fast the token is.
        lanes, all_of_them = provider._process.lanes, threading.Barrier(16)
        await asyncio.gather(*(lanes.run(lambda _s, _d: all_of_them.wait(SECONDS), SECONDS) for _ in range(16)))

        async def some(first: int) -> None:
            for n in range(first, 10_000, 50):
                await signed(provider, key if n % 2 else other, text=f"subject {n}")

        await asyncio.gather(*(some(first) for first in range(50)))
        assert len(lanes._running) == 16


async def test_the_guard_may_go_around_it(provider: Pkcs11Provider, hsm: SoftHsm) -> None:
    guard = guarded(provider, hsm.settings())
    key = await created(provider)
    raw = await guard.sign(key.uri, ES256, b"h.p", timeout=SECONDS)
    assert_verified(key, ES256, b"h.p", raw)


def test_a_message_that_is_too_long_for_a_mechanism_is_said_to_be() -> None:
    class Key:
        def sign(self, *_: Any, **__: Any) -> bytes:
            raise pkcs11.DataLenRange

    offered = frozenset({Mechanism.EDDSA, Mechanism.ECDSA})
    with pytest.raises(MessageTooLargeError):
        _signature(Key(), sign_calls(ALGORITHMS["EdDSA"], offered), b"m")
    with pytest.raises(pkcs11.DataLenRange):
        _signature(Key(), sign_calls(ES256, offered), b"m")


async def test_work_that_nobody_waits_for_is_never_begun() -> None:
    lanes: Lanes[None] = Lanes(1, lambda: None)
    begun: list[str] = []
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(_state: None, _deadline: float) -> None:
        begun.append("slow")
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(10)

    first = asyncio.create_task(lanes.run(slow, 5))
    await asyncio.sleep(0.05)
    second = asyncio.create_task(lanes.run(lambda _s, _d: begun.append("second"), 5))
    await asyncio.sleep(0.05)
    second.cancel()
    gate.set()
    await first
    await lanes.run(lambda _s, _d: begun.append("third"), 5)
    assert begun == ["slow", "third"]
    assert await lanes.aclose(5)
    assert sys.getrefcount(lanes) < 10


async def test_a_key_of_another_kind_is_no_failure_of_the_device(provider: Pkcs11Provider) -> None:
    for name, others in (("ES256", ("ES384", "EdDSA", "RS256")), ("RS256", ("ES256", "EdDSA")), ("EdDSA", ("ES256",))):
        key = await created(provider, name)
        for other in others:
            with pytest.raises(ProviderUnsupportedError, match="does not use"):
                await provider.sign(key.uri, ALGORITHMS[other], b"h.p", timeout=SECONDS)
    assert provider._process.token._failures == 0
