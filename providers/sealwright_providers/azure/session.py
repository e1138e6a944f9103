"""TLS for all connections of a provider, and the session with which the SDK gets tokens."""

from __future__ import annotations

import socket
import ssl

import aiohttp
from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver

from sealwright.provider import ConfigurationError
from sealwright_providers.azure.settings import AzureSettings

_LOOPBACK = "127.0.0.1"


class LoopbackResolver(ThreadedResolver):
    """Resolves names under `localhost` to the loopback address, as RFC 6761 §6.3 asks and the C library does not."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host."""
        return await super().resolve(_LOOPBACK if host.endswith(".localhost") else host, port, family)


def open_session(context: ssl.SSLContext) -> aiohttp.ClientSession:
    """Return a session for the SDK with one TLS context. With more than one, aiohttp would not reuse connections."""
    # No proxies from the environment: only the configuration says where requests go.
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context, limit=0, keepalive_timeout=60, resolver=LoopbackResolver()),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
    )


def tls_context(settings: AzureSettings) -> ssl.SSLContext:
    """Return the TLS context of all connections. Reads files.

    Raises:
        ConfigurationError: `ca_file` cannot be used.
    """
    context = ssl.create_default_context()
    if settings.ca_file is not None:
        try:
            context.load_verify_locations(settings.ca_file)
        except OSError as e:  # ssl.SSLError is one, too.
            raise ConfigurationError([f"ca_file: cannot be used ({type(e).__name__})"]) from e
    return context
