"""One of several processes that write to one store at the same time. Its standard input tells it when to begin."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta

from sealwright.keys.lifecycle import Key, Limits
from sealwright.sql import migrate
from sealwright.sql.settings import StoreSettings
from sealwright.sql.store import SqlStore


def say(word: str) -> None:
    """Tell the test."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def race(url: str, me: str, rounds: int) -> None:
    """Open the store and publish a key in every round, if this is who wins it."""
    span = timedelta(minutes=1)
    limits = Limits(
        max_staleness=span, max_age=span, stale_if_error=span, max_lifetime=span, verifier_skew=span, max_serve_age=span
    )
    say("here")
    sys.stdin.readline()
    settings = StoreSettings(url=url)
    engine = settings.dialect.open(url)
    migrate.upgrade(engine, settings.dialect)
    engine.dispose()
    store = await SqlStore.open(settings, upgrade=False)
    await store.ensure_issuer("payments", limits)
    for number in range(1, rounds + 1):
        state = (await store.read()).issuers["payments"]
        say(str(len(state.keys)))
        sys.stdin.readline()
        new = Key(
            kid=f"{me}-{number}",
            issuer="payments",
            series="es256",
            ordinal=number,
            algorithm="ES256",
            provider="aws",
            uri=f"awskms:///{me}-{number}",
            public_key=b"key",
            publish_time=datetime.now(UTC),
        )
        say("won" if await store.publish(state, [new], []) else "lost")
        sys.stdin.readline()
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(race(sys.argv[1], sys.argv[2], int(sys.argv[3])))
