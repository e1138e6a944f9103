"""C126, in its own process: signs, forks, and signs in the child and in the parent. Argument: a provider's table, as JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
import traceback
import warnings

from sealwright.errors import ProviderUnavailableError
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.jose.jwk import load_public_key
from sealwright.jose.signatures import normalise, verify
from sealwright.provider import KeyDescription, KeySpec, RawSignature
from sealwright_providers.pkcs11 import FACTORY
from sealwright_providers.pkcs11.provider import Pkcs11Provider
from sealwright_providers.pkcs11.settings import Pkcs11Settings

ES256 = ALGORITHMS["ES256"]

# The file store of SoftHSM fails now and then when two processes use it. The provider then logs that it recovers.
logging.disable(logging.WARNING)


SETTINGS = Pkcs11Settings(**json.loads(sys.argv[1]))


async def opened() -> tuple[Pkcs11Provider, KeyDescription]:
    provider = await FACTORY.open(SETTINGS)
    assert isinstance(provider, Pkcs11Provider)
    key = await provider.create(KeySpec(algorithm=ES256), timeout=10)
    await sign(provider, key)
    return provider, key


async def sign(provider: Pkcs11Provider, key: KeyDescription) -> None:
    async def one(n: int) -> None:
        message = f"h.{os.getpid()}.{n}".encode()
        raw = await patiently(provider, key, message)
        signature = normalise(raw.value, raw.encoding, ES256)
        assert verify(load_public_key(key.public_key or b""), ES256, message, signature)

    await asyncio.gather(*(one(n) for n in range(50)))


async def patiently(provider: Pkcs11Provider, key: KeyDescription, message: bytes) -> RawSignature:
    """Sign, with retries. When several processes initialise SoftHSM and log in at once, one may get errors for a moment."""
    end = time.monotonic() + 5
    while True:
        try:
            return await provider.sign(key.uri, ES256, message, timeout=5)
        except ProviderUnavailableError:
            if time.monotonic() >= end:
                raise
            await asyncio.sleep(0.1)


async def sign_and_close(provider: Pkcs11Provider, key: KeyDescription) -> None:
    await sign(provider, key)
    await provider.aclose()


def main() -> None:
    """Fork three children that sign concurrently."""
    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on: a process with threads forks
    provider, key = asyncio.run(opened())
    children = []
    for _ in range(3):
        child = os.fork()
        if not child:
            code = 1
            try:
                asyncio.run(sign_and_close(provider, key))
                code = 0
            except BaseException:
                traceback.print_exc()
                raise
            finally:
                os._exit(code)
        children.append(child)
    asyncio.run(sign(provider, key))
    statuses = [os.waitpid(child, 0)[1] for child in children]
    asyncio.run(sign_and_close(provider, key))
    sys.stdout.write(json.dumps(statuses))


if __name__ == "__main__":
    main()
