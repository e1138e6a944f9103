"""Eight signers on one token, while sessions are closed, the token logged out and the module finalised at random.

    python soak.py SECONDS TABLE      # TABLE: a provider's table in the configuration, as JSON

Prints a JSON object: how many tokens were signed and verified, how many errors there were of which kind, and what was
done to the module. Ends with 1 where a token is wrong, an error is not ours, or the token does not come back.

What is done to the module is done by the process itself, through the module's own functions, as a careless library beside
ours would. The gate is held meanwhile: to finalise a module that is in use is undefined, and SoftHSM crashes of it.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import random
import sys
import threading
import time
from collections import Counter

from sealwright.errors import ProviderError, ProviderUnavailableError
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.jose.jwk import load_public_key
from sealwright.jose.signatures import normalise, verify
from sealwright.provider import KeyDescription, KeySpec
from sealwright_providers.pkcs11 import FACTORY
from sealwright_providers.pkcs11.cryptoki import Cryptoki
from sealwright_providers.pkcs11.provider import Pkcs11Provider
from sealwright_providers.pkcs11.settings import Pkcs11Settings

SIGNERS = 8
NAMES = ("ES256", "RS256", "PS256", "EdDSA")
FINALIZE, OPEN_SESSION, CLOSE_ALL_SESSIONS, LOGOUT = 1, 12, 14, 19
RW_SERIAL = 0x6


class Soak:
    """The events and their counts."""

    def __init__(self, provider: Pkcs11Provider, seconds: float) -> None:
        self.provider = provider
        self.end = time.monotonic() + seconds
        self.signed = 0
        self.wrong = 0
        self.errors: Counter[str] = Counter()
        self.done: Counter[str] = Counter()

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.end

    async def sign(self, number: int, keys: dict[str, KeyDescription]) -> None:
        """Sign until the end."""
        publics = {name: load_public_key(key.public_key or b"") for name, key in keys.items()}
        count = 0
        while not self.over:
            count += 1
            name = NAMES[count % len(NAMES)]
            algorithm, key, message = ALGORITHMS[name], keys[name], f"{number}.{count}".encode()
            try:
                raw = await self.provider.sign(key.uri, algorithm, message, timeout=5)
            except ProviderError as e:
                self.errors[f"{type(e).__name__} of {type(e.__cause__).__name__}"] += 1
                continue
            signature = normalise(raw.value, raw.encoding, algorithm)
            if verify(publics[name], algorithm, message, signature):
                self.signed += 1
            else:
                self.wrong += 1

    async def manage(self) -> None:
        """Create, find and destroy keys until the end."""
        tags = {"sealwright:deployment": "soak", "sealwright:intent": "surplus"}
        while not self.over:
            try:
                await self.provider.create(KeySpec(algorithm=ALGORITHMS["ES256"], tags=tags), timeout=5)
                for uri in await self.provider.find(tags, timeout=5):
                    await self.provider.schedule_deletion(uri, timeout=5)
            except ProviderError as e:
                self.errors[f"manage: {type(e).__name__} of {type(e.__cause__).__name__}"] += 1
            await asyncio.sleep(0.05)

    def disturb(self, module: Cryptoki, slot_of: dict[str, int]) -> None:
        """Disturb the module until the end. Runs in a thread."""
        while not self.over:
            time.sleep(random.uniform(0.005, 0.06))  # noqa: S311 - no secret
            what = random.choice(("sessions", "login", "module"))  # noqa: S311
            with module.gate.alone(time.monotonic() + 10):
                slot = ctypes.c_ulong(slot_of["slot"])
                if what == "sessions":
                    module._call(CLOSE_ALL_SESSIONS, slot)
                elif what == "login":
                    session = ctypes.c_ulong()
                    flags = ctypes.c_ulong(RW_SERIAL)
                    module._call(OPEN_SESSION, slot, flags, None, None, ctypes.byref(session))
                    module._call(LOGOUT, session)
                else:
                    module._call(FINALIZE, None)
            self.done[what] += 1


async def come_back(provider: Pkcs11Provider, key: KeyDescription) -> None:
    """Check that a key is found again, at once or after the longest pause between two initialisations."""
    end = time.monotonic() + 3
    while True:
        try:
            assert await provider.describe(key.uri, timeout=5) == key
        except ProviderUnavailableError:
            if time.monotonic() >= end:
                raise
            await asyncio.sleep(0.1)
        else:
            return


async def main() -> int:
    """Run it."""
    provider = await FACTORY.open(Pkcs11Settings(**{**json.loads(sys.argv[2]), "sessions": SIGNERS}))
    assert isinstance(provider, Pkcs11Provider)
    keys = {name: await provider.create(KeySpec(algorithm=ALGORITHMS[name]), timeout=30) for name in NAMES}
    soak = Soak(provider, float(sys.argv[1]))
    process = provider._process
    found = process.token._found
    assert found is not None
    harm = threading.Thread(target=soak.disturb, args=(process.module, {"slot": found.slot}), daemon=True)
    harm.start()
    await asyncio.gather(soak.manage(), *(soak.sign(number, keys) for number in range(SIGNERS)))
    harm.join()
    for key in keys.values():
        await come_back(provider, key)
    await provider.aclose()
    report = {"signed": soak.signed, "wrong": soak.wrong, "errors": soak.errors, "done": soak.done}
    sys.stdout.write(json.dumps(report))
    return int(bool(soak.wrong) or not soak.signed)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
