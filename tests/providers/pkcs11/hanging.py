"""In its own process: starts a call that hangs, and ends. Arguments: a directory, the real module, a provider's table."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from sealwright.errors import ProviderError
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.provider import KeySpec
from sealwright_providers.pkcs11 import FACTORY
from sealwright_providers.pkcs11.settings import Pkcs11Settings
from sealwright_testing.pkcs11_faults import Call, FaultyModule


async def main() -> None:
    """Print the reason of the error, and the seconds that it took."""
    faults = FaultyModule(Path(sys.argv[1]), sys.argv[2])
    provider = await FACTORY.open(Pkcs11Settings(**{**json.loads(sys.argv[3]), "module": faults.path}))
    key = await provider.create(KeySpec(algorithm=ALGORITHMS["ES256"]), timeout=10)  # type: ignore[attr-defined]
    faults.delay(Call(int(sys.argv[4])), 600_000)
    start = time.monotonic()
    try:
        if sys.argv[4] == str(int(Call.INITIALIZE)):
            provider._process.module._call(1, None)  # type: ignore[attr-defined]
        await provider.sign(key.uri, ALGORITHMS["ES256"], b"h.p", timeout=0.2)
    except ProviderError as e:
        sys.stdout.write(json.dumps([e.reason, time.monotonic() - start]))


if __name__ == "__main__":
    asyncio.run(main())
