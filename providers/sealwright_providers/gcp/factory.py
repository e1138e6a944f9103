"""Opens a `gcp` provider."""

from __future__ import annotations

import asyncio
from typing import Final

from sealwright.provider import ConfigurationError, KeyProvider, ProviderNotInstalledError
from sealwright_providers.gcp.settings import GcpSettings


class GcpFactory:
    """Factory of `gcp` providers. Importing it does not import the client library, which takes 0.7 s and 69 MiB."""

    kind = "gcp"
    settings = GcpSettings

    async def open(self, settings: GcpSettings) -> KeyProvider:
        """Load the credentials and make the channel. Runs in the worker: gRPC does not survive a fork.

        Raises:
            ProviderNotInstalledError: google-cloud-kms is not installed.
            ConfigurationError: There are no credentials, or a file cannot be used.
        """
        try:
            from sealwright_providers.gcp.channel import KmsChannel  # noqa: PLC0415
            from sealwright_providers.gcp.credentials import CredentialSource, load  # noqa: PLC0415
            from sealwright_providers.gcp.provider import GcpProvider  # noqa: PLC0415
        except ImportError as e:
            raise ProviderNotInstalledError(["kind gcp needs google-cloud-kms: install sealwright[gcp]"]) from e
        source, roots = None, None
        if not settings.insecure_endpoint:
            # Both read files, and the search for credentials may ask the metadata server.
            source = CredentialSource(await asyncio.to_thread(load, settings.credentials_file))
            if settings.ca_file is not None:
                roots = await asyncio.to_thread(_read, settings.ca_file)
        return GcpProvider(settings, KmsChannel(settings.endpoint, source, roots))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a path of the configuration
            return file.read()
    except OSError as e:
        raise ConfigurationError([f"ca_file: the file cannot be read ({type(e).__name__})"]) from e


FACTORY: Final = GcpFactory()
