"""Opens a `gcp` provider."""

from __future__ import annotations

import asyncio
from typing import Final

from sealwright.provider import KeyProvider, ProviderNotInstalledError
from sealwright_providers.gcp.settings import GcpSettings


class GcpFactory:
    """Factory of `gcp` providers. Importing it does not import the client library, which takes 0.7 s and 69 MiB."""

    kind = "gcp"
    settings = GcpSettings

    async def open(self, settings: GcpSettings) -> KeyProvider:
        """Load the credentials and make the channel.

        Raises:
            ProviderNotInstalledError: google-cloud-kms is not installed.
            ConfigurationError: There are no credentials, or a file cannot be used.
        """
        try:
            from sealwright_providers.dial import tls_context  # noqa: PLC0415
            from sealwright_providers.gcp.channel import KmsChannel  # noqa: PLC0415
            from sealwright_providers.gcp.credentials import CredentialSource, load  # noqa: PLC0415
            from sealwright_providers.gcp.provider import GcpProvider  # noqa: PLC0415
        except ImportError as e:
            raise ProviderNotInstalledError(["kind gcp needs google-cloud-kms: install sealwright[gcp]"]) from e
        source, context = None, None
        if not settings.insecure_endpoint:
            # Both read files, and the search for credentials may ask the metadata server.
            source = CredentialSource(await asyncio.to_thread(load, settings.credentials_file))
            context = await asyncio.to_thread(tls_context, settings.ca_file)
        return GcpProvider(settings, KmsChannel(settings.endpoint, source, context))


FACTORY: Final = GcpFactory()
