"""Opens an `azure` provider."""

from __future__ import annotations

import logging
from typing import Final

from sealwright.provider import KeyProvider, ProviderNotInstalledError
from sealwright_providers.azure.settings import AzureSettings

_SILENCED: Final = ("azure", "msal")
"""Loggers of the SDK: they write URLs of keys, tenants and applications."""


class AzureFactory:
    """Factory of `azure` providers. Importing it does not import the SDK."""

    kind = "azure"
    settings = AzureSettings

    async def open(self, settings: AzureSettings) -> KeyProvider:
        """Make the client. The first call to the vault gets the token.

        Raises:
            ProviderNotInstalledError: azure-keyvault-keys or azure-identity is not installed.
            ConfigurationError: `ca_file` cannot be used.
        """
        try:
            from sealwright_providers.azure.connection import Connection  # noqa: PLC0415
        except ImportError as e:
            raise ProviderNotInstalledError(
                ["kind azure needs azure-keyvault-keys and azure-identity: install sealwright[azure]"]
            ) from e
        from sealwright_providers.azure.provider import AzureProvider  # noqa: PLC0415

        for name in _SILENCED:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        return AzureProvider(settings, await Connection.open(settings))


FACTORY: Final = AzureFactory()
