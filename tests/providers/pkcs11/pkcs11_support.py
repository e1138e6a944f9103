"""Shared by the tests of the `pkcs11` provider."""

from __future__ import annotations

import ctypes
import hashlib
import hmac
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pkcs11
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from sealwright.clock import SystemClock
from sealwright.jose import base64url
from sealwright.jose.algorithms import ALGORITHMS, Algorithm
from sealwright.jose.signatures import normalise
from sealwright.kms.guard import GuardedProvider
from sealwright.provider import KeyDescription, KeySpec, RawSignature
from sealwright_providers.pkcs11 import FACTORY
from sealwright_providers.pkcs11.cryptoki import Cryptoki
from sealwright_providers.pkcs11.provider import Pkcs11Provider
from sealwright_providers.pkcs11.settings import Pkcs11Settings

SECONDS = 10.0
ES256 = ALGORITHMS["ES256"]
RS256 = ALGORITHMS["RS256"]
DEPLOYMENT = "sealwright:deployment"
INTENT = "sealwright:intent"
TAGS = {DEPLOYMENT: "d1", INTENT: "i1", "sealwright:issuer": "payments"}

FINALIZE, CLOSE_ALL_SESSIONS, LOGOUT = 1, 14, 19


@asynccontextmanager
async def opened(table: dict[str, Any]) -> AsyncIterator[Pkcs11Provider]:
    """Open a provider as the service does."""
    provider = await FACTORY.open(Pkcs11Settings(**table))
    assert isinstance(provider, Pkcs11Provider)
    try:
        yield provider
    finally:
        await provider.aclose()


def guarded(provider: Pkcs11Provider, table: dict[str, Any]) -> GuardedProvider:
    return GuardedProvider("hsm", provider, Pkcs11Settings(**table), SystemClock())


async def created(provider: Pkcs11Provider, name: str = "ES256", **tags: str) -> KeyDescription:
    spec = KeySpec(algorithm=ALGORITHMS[name], tags={**TAGS, **tags})
    return await provider.create(spec, timeout=30)


async def signed(provider: Pkcs11Provider, key: KeyDescription, name: str = "ES256", text: str = "a") -> None:
    """Sign, and verify the signature with other libraries."""
    message = signing_input(name, text)
    raw = await provider.sign(key.uri, ALGORITHMS[name], message, timeout=SECONDS)
    assert raw.key_uri == key.uri
    assert_verified(key, ALGORITHMS[name], message, raw)


def signing_input(name: str, text: str = "a") -> bytes:
    header, payload = f'{{"alg":"{name}"}}', f'{{"sub":"{text}"}}'
    return f"{base64url.encode(header.encode())}.{base64url.encode(payload.encode())}".encode()


def assert_verified(key: KeyDescription, algorithm: Algorithm, message: bytes, raw: RawSignature) -> None:
    """Verify with PyJWT, and PSS with exactly the salt of RFC 7518 §3.5."""
    signature = normalise(raw.value, raw.encoding, algorithm)
    public = load_der_public_key(key.public_key or b"")
    name = "EdDSA" if algorithm.kind.kty == "OKP" else algorithm.name
    assert jwt.get_algorithm_by_name(name).verify(message, public, signature)
    if algorithm.name.startswith("PS"):
        assert isinstance(public, rsa.RSAPublicKey)
        assert algorithm.hash is not None
        pss = padding.PSS(padding.MGF1(algorithm.hash), algorithm.hash.digest_size)
        public.verify(signature, message, pss, algorithm.hash)


def hmac_of(secret: bytes, name: str, message: bytes) -> bytes:
    return hmac.new(secret, message, getattr(hashlib, f"sha{name[2:]}")).digest()


async def in_token(provider: Pkcs11Provider, work: Callable[[pkcs11.Session], Any]) -> Any:
    """Run a function with python-pkcs11 in a session of the provider."""
    return await provider._managed(lambda session, _token: work(session), SECONDS)


def module_of(provider: Pkcs11Provider) -> Cryptoki:
    return provider._process.module


def raw_call(provider: Pkcs11Provider, function: int, *arguments: int) -> int:
    """Call a function of the module as other code in this process would, but while no call is inside, since that could crash."""
    module = module_of(provider)
    pointers = [None if function == FINALIZE else ctypes.c_ulong(argument) for argument in arguments or (0,)]
    with module.gate.alone(time.monotonic() + SECONDS):
        return module._call(function, *pointers)


async def slot_and_session(provider: Pkcs11Provider) -> tuple[int, int]:
    return await in_token(provider, lambda session: (session.token.slot.slot_id, session.handle))  # type: ignore[attr-defined,no-any-return]


def in_process(script: str, *arguments: str, seconds: float = 60) -> str:
    """Run a script in its own process, and return its output."""
    done = subprocess.run(  # noqa: S603 - scripts beside this one
        [sys.executable, "-X", "faulthandler", "-W", "error", script, *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    assert not done.stderr, done.stderr
    return done.stdout


def beside(name: str) -> str:
    return str(Path(__file__).with_name(name))
