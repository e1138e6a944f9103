"""The kinds of providers: those that come with Sealwright, and plug-ins by their entry points."""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, cast

from sealwright.errors import ConfigurationError
from sealwright.provider import ProviderFactory

GROUP: Final = "sealwright.providers"
"""The group of entry points in which plug-ins name their factories."""

BUILT_IN: Final = {
    "aws": "sealwright_providers.aws:FACTORY",
    "azure": "sealwright_providers.azure:FACTORY",
    "gcp": "sealwright_providers.gcp:FACTORY",
    "pkcs11": "sealwright_providers.pkcs11:FACTORY",
}
"""Kinds that come with Sealwright. They win over a plug-in of the same name, so that no plug-in can replace them."""


def load_factory(kind: str, plugins: Collection[str] = ()) -> ProviderFactory[Any]:
    """Return the factory of a kind of provider, without importing its SDK.

    Args:
        kind: The `kind` in the configuration.
        plugins: Kinds that the configuration allows beyond the built-in ones.

    Raises:
        ConfigurationError: The kind does not exist, or is a plug-in that the configuration does not name or that is defective.
    """
    if kind in BUILT_IN:
        return cast("ProviderFactory[Any]", EntryPoint(kind, BUILT_IN[kind], GROUP).load())
    if kind not in plugins:
        raise ConfigurationError(
            [f"unknown kind {kind!r}; built in: {', '.join(sorted(BUILT_IN))}; plug-ins must be named in `plugins`"]
        )
    found = list(entry_points(group=GROUP, name=kind))
    if len(found) != 1:
        raise ConfigurationError([f"{len(found)} installed packages offer the kind {kind!r}; exactly one is needed"])
    return _load_plugin(kind, found[0])


def _load_plugin(kind: str, entry: EntryPoint) -> ProviderFactory[Any]:
    try:
        factory = entry.load()
    except (ImportError, AttributeError) as e:
        raise ConfigurationError([f"the plug-in of kind {kind!r} cannot be imported ({type(e).__name__})"]) from e
    missing = [name for name in ("kind", "settings", "open") if not hasattr(factory, name)]
    if missing:
        raise ConfigurationError(
            [f"the plug-in of kind {kind!r} is not a provider factory: it lacks {', '.join(missing)}"]
        )
    if factory.kind != kind:
        raise ConfigurationError([f"the plug-in of kind {kind!r} calls itself {factory.kind!r}"])
    return cast("ProviderFactory[Any]", factory)
