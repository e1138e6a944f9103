"""Key URIs of Azure: `azurekms://HOST/keys/NAME/VERSION`; without the version where a name may be resolved."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from sealwright.provider import ProviderUnsupportedError

SCHEME: Final = "azurekms://"
_VERSION: Final = r"[0-9a-fA-F]{32}"
_KEY = re.compile(rf"(?P<host>[^/]{{1,255}})/keys/(?P<name>[0-9a-zA-Z-]{{1,127}})(?:/(?P<version>{_VERSION}))?")


class KeyName(NamedTuple):
    """A key of the vault.

    Attributes:
        name: The key's name.
        version: The version; None: the URI has none.
    """

    name: str
    version: str | None


class KeyUris:
    """Key URIs of one vault.

    Args:
        host: The vault's host, with its port if it has one.
    """

    def __init__(self, host: str) -> None:
        self._host = host.lower()

    def resolvable(self, uri: str) -> KeyName:
        """Read a URI with or without a version.

        Raises:
            ProviderUnsupportedError: It is not the URI of a key in this vault.
        """
        match = _KEY.fullmatch(uri.removeprefix(SCHEME)) if uri.startswith(SCHEME) else None
        if match is None:
            raise ProviderUnsupportedError("the key URI must be azurekms://HOST/keys/NAME/VERSION")
        if match["host"].lower() != self._host:
            raise ProviderUnsupportedError("the key URI is outside the provider's vault")
        return KeyName(match["name"], match["version"])

    def pinned(self, uri: str) -> KeyName:
        """Read a URI that has a version.

        Raises:
            ProviderUnsupportedError: It is not the URI of a key in this vault, or it has no version.
        """
        key = self.resolvable(uri)
        if key.version is None:
            raise ProviderUnsupportedError("the key URI has no version: without one it would follow rotation")
        return key

    def of_kid(self, kid: str) -> str | None:
        """Return the URI of a `kid` of Key Vault; None: it does not name a version of a key."""
        match = _KEY.fullmatch(kid.removeprefix("https://")) if kid.startswith("https://") else None
        return None if match is None or match["version"] is None else SCHEME + kid.removeprefix("https://")
