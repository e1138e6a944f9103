"""Warnings: what is allowed, but probably not intended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sealwright.access.grants import POWERLESS
from sealwright.config.model import Config
from sealwright.issuer_settings import IssuerSettings, SeriesSettings, readers_lost
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.keys.lifecycle import Limits
from sealwright.keys.settings import limits

_READERS: Final = ((4096, "nginx's default buffer"), (16384, "mod_auth_openidc's cache"))
"""The largest JWK Set, in bytes, that some readers accept."""


def warnings(config: Config) -> Iterator[str]:
    """Yield what is allowed, but probably not intended."""
    yield from _about_grants(config)
    for i, issuer in enumerate(config.issuers):
        bounds = limits(issuer, config.timing)
        size = sum(ALGORITHMS[s.algorithm].jwk_size(s.rsa_bits) * _keys_published(s, bounds) for s in issuer.series)
        for limit, reader in _READERS:
            if size > limit:
                yield f"issuers[{i}]: the JWK Set may have about {size} bytes, but {reader} holds only {limit}"
        yield from _about_readers(f"issuers[{i}]", issuer)
        yield from _about_rotation(f"issuers[{i}]", issuer, bounds)


def _about_grants(config: Config) -> Iterator[str]:
    if not config.grants:
        yield "grants: there are none, so no caller may do anything"
    for i, grant in enumerate(config.grants):
        for j, role in enumerate(grant.roles):
            if role in POWERLESS:
                yield f"grants[{i}].roles[{j}]: this version has no RPC for {role.value}, so the role permits nothing"
        for j, pattern in enumerate(grant.issuers):
            if not any(pattern.matches(issuer.name) for issuer in config.issuers):
                yield f"grants[{i}].issuers[{j}]: no issuer matches this pattern"


def _about_readers(path: str, issuer: IssuerSettings) -> Iterator[str]:
    """Yield who cannot read the JWK Set: settings that would lose readers without `mixed_key_types` are refused."""
    lost = readers_lost(issuer.series)
    if lost:
        reasons = "; ".join(f"{algorithm}: {', '.join(readers)}" for algorithm, readers in lost.items())
        yield f"{path}.mixed_key_types: these libraries drop the whole JWK Set because of a key in it: {reasons}"


def _about_rotation(path: str, issuer: IssuerSettings, bounds: Limits) -> Iterator[str]:
    for j, series in enumerate(issuer.series):
        if series.rotation_period is not None and series.rotation_period < bounds.scheduled_wait:
            yield (
                f"{path}.series[{j}].rotation_period: a scheduled rotation waits until its standby has been published for "
                f"{bounds.scheduled_wait}, so keys sign for longer than this period"
            )


def _keys_published(series: SeriesSettings, bounds: Limits) -> int:
    """Return how many keys of a series the JWK Set holds: active, standby, and those retired for less than the tail."""
    if series.rotation_period is None:
        return 3
    return 2 + -(-bounds.tail // max(series.rotation_period, bounds.scheduled_wait))
