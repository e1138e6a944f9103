"""The configuration against the store: what a key was created with cannot be changed behind it."""

from __future__ import annotations

from collections.abc import Iterator

from sealwright.config.model import Config
from sealwright.config.wording import path_of
from sealwright.issuer_settings import IssuerSettings
from sealwright.keys import lifecycle
from sealwright.keys.lifecycle import Key
from sealwright.keys.ports import IssuerState, StoreState

_NEW_SERIES = "add a new series, wait for its lead (`sealwright keys list` shows its keys), then remove the old one"


def problems_with_store(config: Config, state: StoreState) -> Iterator[str]:
    """Yield why keys in the store cannot be used with a configuration, each with the way out."""
    configured = {issuer.name for issuer in config.issuers}
    orphans = {s.url: s.name for s in state.issuers.values() if s.url and s.keys and s.name not in configured}
    for i, issuer in enumerate(config.issuers):
        path = f"issuers[{i}]"
        known = state.issuers.get(issuer.name)
        if known is None or not known.keys:
            if issuer.url in orphans:
                yield (
                    f"{path}.name: the store has keys for this URL under the name {orphans[issuer.url]}, and verifiers know them: "
                    "an issuer keeps its name"
                )
            continue
        if known.url is not None and known.url != issuer.url:
            yield (
                f"{path}.url: the store has keys for {known.url}, and live tokens have it as `iss`: an issuer keeps its URL. "
                "Add another issuer for the new one"
            )
        yield from _about_series(path, issuer, known, state)
        yield from _about_providers(path, config, issuer, known)


def _about_series(path: str, issuer: IssuerSettings, known: IssuerState, state: StoreState) -> Iterator[str]:
    names = [s.name for s in issuer.series]
    able = lifecycle.signers(known.keys, state.time, names)
    for j, series in enumerate(issuer.series):
        others = {k.algorithm for k in lifecycle.queue(known.keys, series.name)} - {series.algorithm}
        if others:
            yield (
                f"{path}.series[{j}].algorithm: the store has keys of this series for {', '.join(sorted(others))}: "
                f"a series keeps its algorithm; {_NEW_SERIES}"
            )
    left = [k for k in known.keys if k.series not in names and lifecycle.ready(k, state.time)]
    configured = {s.algorithm for s in issuer.series}
    for name in dict.fromkeys(k.series for k in left):
        # Removing an algorithm that nobody signs with any more is fine, as long as another one can take over.
        lost = {k.algorithm for k in left if k.series == name} & configured - {k.algorithm for k in able}
        if lost or not able:
            yield (
                f"{path}.series: the store has keys of the series {name}, which is not configured, and no other key may sign "
                f"in its place yet: a series keeps its name; {_NEW_SERIES}"
            )


def _about_providers(path: str, config: Config, issuer: IssuerSettings, known: IssuerState) -> Iterator[str]:
    for j, series in enumerate(issuer.series):
        keys = lifecycle.queue(known.keys, series.name)
        for name in dict.fromkeys(k.provider for k in keys):
            settings = config.providers.get(name)
            mine: list[Key] = [k for k in keys if k.provider == name]
            if settings is None:
                yield (
                    f"{path}.series[{j}]: the keys of this series are at the provider {name}, which is not configured: "
                    f"a provider keeps its name; to leave it, {_NEW_SERIES}"
                )
            elif not all(settings.owns(k.uri) for k in mine):
                yield (
                    f"{path_of(('providers', name))}: the keys of {path}.series[{j}] are outside of these settings (region, "
                    f"account, key ring, vault or token): restore them, or add a provider under another name; there {_NEW_SERIES}"
                )
