"""Which kinds of provider there are: entry points in the group `sealwright.providers`."""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Final, cast

from sealwright.errors import ConfigurationError

if TYPE_CHECKING:
    from sealwright.kms.provider import ProviderFactory

GROUP: Final = "sealwright.providers"
BUILT_IN: Final = {
    "aws": "sealwright_providers.aws:FACTORY",
    "pkcs11": "sealwright_providers.pkcs11:FACTORY",
}
"""Kinds that come with Sealwright. They win over a plug-in of the same name, so that none can take their place."""


def load_factory(kind: str, plugins: Collection[str] = ()) -> ProviderFactory:
    """Return the factory of a kind of provider, without importing its SDK.

    Args:
        kind: The `kind` in the configuration.
        plugins: Kinds that the configuration allows beyond the built-in ones.

    Raises:
        ConfigurationError: There is no such kind, or it is a plug-in that the configuration does not name or that is no good.
    """
    if kind in BUILT_IN:
        return cast("ProviderFactory", EntryPoint(kind, BUILT_IN[kind], GROUP).load())
    if kind not in plugins:
        raise ConfigurationError(
            [f"unknown kind {kind!r}; built in: {', '.join(sorted(BUILT_IN))}; plug-ins must be named in `plugins`"]
        )
    found = list(entry_points(group=GROUP, name=kind))
    if len(found) != 1:
        raise ConfigurationError([f"{len(found)} installed packages offer the kind {kind!r}; exactly one is needed"])
    return _load_plugin(kind, found[0])


def _load_plugin(kind: str, entry: EntryPoint) -> ProviderFactory:
    try:
        factory = entry.load()
    except (ImportError, AttributeError) as e:
        raise ConfigurationError([f"the plug-in of kind {kind!r} cannot be imported ({type(e).__name__})"]) from e
    missing = [name for name in ("kind", "scheme", "settings", "open") if not hasattr(factory, name)]
    if missing:
        raise ConfigurationError([f"the plug-in of kind {kind!r} is no provider factory: no {', '.join(missing)}"])
    if factory.kind != kind:
        raise ConfigurationError([f"the plug-in of kind {kind!r} calls itself {factory.kind!r}"])
    return cast("ProviderFactory", factory)
