"""Warnings: what is allowed, but probably not intended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from sealwright.access.grants import POWERLESS
from sealwright.access.identity import LOCAL
from sealwright.access.settings import Role
from sealwright.config.model import Config
from sealwright.config.wording import path_of
from sealwright.issuer_settings import IssuerSettings, SeriesSettings, readers_lost
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.keys.choice import level_of
from sealwright.keys.lifecycle import Limits
from sealwright.keys.settings import SPREAD, limits

_READERS: Final = ((4096, "nginx's default buffer"), (16384, "mod_auth_openidc's cache"))
"""The largest JWK Set, in bytes, that some readers accept."""


_CERTIFICATE_NAMES: Final = ("spiffe://", "dns:")
"""How the names of callers begin that a client certificate identifies."""
_UNIX_NAMES: Final = ("unix:uid=",)
_NAMES: Final[Mapping[tuple[str, ...], str]] = {
    _CERTIFICATE_NAMES: f"with TLS, names of callers begin with {' or '.join(_CERTIFICATE_NAMES)}",
    _UNIX_NAMES: "on a Unix socket, the name of a caller is `unix:uid=` and the number of its user",
    (LOCAL,): "without TLS, callers have no certificates (use `local`)",
}
_LONG: Final = timedelta(days=30)


def warnings(config: Config) -> Iterator[str]:
    """Yield what is allowed, but probably not intended."""
    yield from _about_grants(config)
    yield from _about_callers(config)
    yield from _about_plaintext(config)
    for i, issuer in enumerate(config.issuers):
        bounds = limits(issuer, config.timing)
        size = sum(ALGORITHMS[s.algorithm].jwk_size(s.rsa_bits) * _keys_published(s, bounds) for s in issuer.series)
        for limit, reader in _READERS:
            if size > limit:
                yield f"issuers[{i}]: the JWK Set may have about {size} bytes, but {reader} holds only {limit}"
        yield from _about_readers(f"issuers[{i}]", issuer)
        if issuer.max_lifetime > _LONG:
            yield f"issuers[{i}].max_lifetime: tokens may live for more than {_LONG.days} days, and nothing can recall one"
        yield from _about_rotation(f"issuers[{i}]", issuer, bounds)
        yield from _about_seldom_readers(f"issuers[{i}]", issuer, bounds, config.timing.verifier_refresh)
        yield from _about_protection(f"issuers[{i}]", issuer)


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


def _about_callers(config: Config) -> Iterator[str]:
    kinds: tuple[str, ...] = _CERTIFICATE_NAMES
    if config.server.grpc_is_unix:
        kinds = _UNIX_NAMES
    elif config.server.insecure_local:
        kinds = (LOCAL,)
    for i, grant in enumerate(config.grants):
        text = grant.caller.text
        if text in {"*", "**"} and set(Role) - POWERLESS <= set(grant.roles):
            yield f"grants[{i}].caller: every caller that can connect has all roles"
        if not text.startswith((*kinds, "*")):
            yield f"grants[{i}].caller: matches no caller: {_NAMES[kinds]}"


def _about_plaintext(config: Config) -> Iterator[str]:
    if not config.server.insecure_local:
        return
    for name, provider in config.providers.items():
        if provider.kind == "aws" and not _is_loopback(getattr(provider, "endpoint_url", None)):
            place = path_of(("providers", name))
            yield f"server.insecure_local: any process on this host may sign with the keys of {place}, which are in AWS"


def _is_loopback(url: str | None) -> bool:
    host = urlsplit(url or "").hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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


def _about_seldom_readers(path: str, issuer: IssuerSettings, bounds: Limits, refresh: timedelta) -> Iterator[str]:
    """Yield which rotations on schedule do not wait for verifiers that keep a JWK Set longer than it permits."""
    for j, series in enumerate(issuer.series):
        wait = max(bounds.scheduled_wait, series.min_lead)
        if series.rotation_period is not None and bounds.settling(refresh) > wait:
            yield (
                f"{path}.series[{j}].rotation_period: a scheduled rotation may use a key that has been published for {wait}, but "
                f"verifiers that keep a JWK Set for timing.verifier_refresh ({refresh}) have it only after "
                f"{bounds.settling(refresh)}: until then they may refuse its tokens. Raise timing.max_serve_age, or lower "
                "timing.verifier_refresh if all verifiers obey Cache-Control"
            )


def _about_protection(path: str, issuer: IssuerSettings) -> Iterator[str]:
    """Yield which series cannot replace the one that signs normally. What a provider does without the setting is not known here."""
    first: dict[str, SeriesSettings] = {}
    for j, series in enumerate(issuer.series):
        normal = first.setdefault(series.algorithm, series)
        if None not in {normal.protection, series.protection} and level_of(series.protection) < level_of(
            normal.protection
        ):
            text = f"its keys do not replace those of series {normal.name}, which have a higher protection level"
            yield f"{path}.series[{j}].protection: {text}"


def _keys_published(series: SeriesSettings, bounds: Limits) -> int:
    """Return how many keys of a series the JWK Set holds: active, standby, and those retired for less than the tail."""
    if series.rotation_period is None:
        return 3
    return 2 + -(-bounds.tail // max(series.rotation_period * (1 - SPREAD), bounds.scheduled_wait))
