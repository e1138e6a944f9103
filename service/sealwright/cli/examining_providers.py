"""What `sealwright doctor` asks the providers: identity, clock, the rights to read a key and to sign with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence

from sealwright.app import open_provider
from sealwright.cli.findings import Finding, ok, problem, warning
from sealwright.clock import SystemClock
from sealwright.config import Config
from sealwright.errors import ConfigurationError, SealwrightError
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.keys import lifecycle
from sealwright.keys.lifecycle import Key
from sealwright.keys.ports import StoreState
from sealwright.keys.trial import try_key
from sealwright.kms.guard import GuardedProvider


async def providers(config: Config, state: StoreState | None) -> list[Finding]:
    """Examine all providers, side by side."""
    every = await asyncio.gather(*(_provider(config, name, _keys(config, state, name)) for name in config.providers))
    return [finding for findings in every for finding in findings]


def _keys(config: Config, state: StoreState | None, provider: str) -> list[Key]:
    """Return the keys of a provider that sign or will sign."""
    if state is None:
        return []
    known = {i.name: [s.name for s in i.series] for i in config.issuers}
    return [
        key
        for name, issuer in state.issuers.items()
        for series in known.get(name, ())
        for key in lifecycle.queue(issuer.keys, series)
        if key.provider == provider
    ]


async def _provider(config: Config, name: str, keys: Sequence[Key]) -> list[Finding]:
    part = f"providers.{name}"
    try:
        provider = await open_provider(config, name, SystemClock())
    except ConfigurationError as e:
        return [problem(part, text) for text in e.problems]
    async with contextlib.aclosing(provider):
        return [finding async for finding in _asked(config, part, provider, keys)]


async def _asked(config: Config, part: str, provider: GuardedProvider, keys: Sequence[Key]) -> AsyncIterator[Finding]:
    seconds = config.providers[provider.name].timeout.total_seconds()
    try:
        await provider.check(timeout=seconds)
    except SealwrightError as e:
        yield problem(part, f"does not answer: {e.message} ({e.reason})")
        for finding in _about_clock(config, part, provider):
            yield finding
        return
    yield ok(part, "answers")
    async for finding in _about_account(config, part, provider, seconds):
        yield finding
    for finding in _about_clock(config, part, provider):
        yield finding
    for key in keys:
        yield await _about_key(part, provider, key)
    if not keys:
        yield ok(part, "the store has no key of it that could sign, so signing was not tried")


async def _about_account(
    config: Config, part: str, provider: GuardedProvider, seconds: float
) -> AsyncIterator[Finding]:
    try:
        mine = await provider.identity(timeout=seconds)
    except SealwrightError as e:
        yield warning(part, f"does not tell whose credentials they are: {e.message} ({e.reason})")
        return
    if mine is None:
        return
    wanted = getattr(config.providers[provider.name], "account", None)
    if wanted is not None and wanted != mine:
        yield problem(part, f"the credentials belong to account {mine}, and `account` is {wanted}")
    else:
        yield ok(part, f"the credentials belong to {mine}")


def _about_clock(config: Config, part: str, provider: GuardedProvider) -> Iterator[Finding]:
    off = provider.time_error()
    if off is None:
        return
    # The Date of an answer has whole seconds.
    if abs(off) > config.timing.max_clock_error.total_seconds() + 1:
        yield problem(part, f"the clock of this machine differs by {off:.0f} s from the KMS's")
    else:
        yield ok(part, "the clock of this machine agrees with the KMS's")


async def _about_key(part: str, provider: GuardedProvider, key: Key) -> Finding:
    name = f"issuers/{key.issuer}/keys/{key.kid}"
    try:
        described = await provider.describe(key.uri, timeout=provider.manage_timeout)
        if described.public_key != key.public_key:
            return problem(part, f"{name}: the KMS has another public key than the one that is published")
        await try_key(provider, described, ALGORITHMS[key.algorithm])
    except SealwrightError as e:
        return problem(part, f"{name}: {e.message} ({e.reason})")
    return ok(part, f"{name}: can be read and signs")
