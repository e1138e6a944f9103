"""Requests to one vault, made once each.

The SDK's pipeline authenticates: it reads the vault's challenge, checks that it names the vault's own domain, and gets the token.
All other requests carry that token and go straight to the connection pool, which takes half of the pipeline's CPU time.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, cast

import aiohttp
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError
from azure.core.pipeline.transport import AioHttpTransport
from azure.core.rest import HttpRequest
from azure.keyvault.keys.aio import KeyClient
from yarl import URL

from sealwright.provider import ProviderTimeoutError, ProviderUnavailableError
from sealwright_providers.azure.credentials import TokenSource, credential_of
from sealwright_providers.azure.errors import CredentialsRefusedError, read_failure, seconds_of, to_provider_error
from sealwright_providers.azure.session import open_session
from sealwright_providers.azure.settings import AzureSettings

_MAX_ANSWER: Final = 1024 * 1024
_TYPE: Final = "application/json"
_SKIPPED: Final = ("User-Agent", "Accept", "Accept-Encoding")


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer of Key Vault.

    Attributes:
        fields: Its JSON object.
        request_id: The ID of the request in the vault's own log; None if the answer has none.
    """

    fields: dict[str, Any]
    request_id: str | None


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: bytes
    request_id: str | None
    retry_after: str | None


class Connection:
    """A pool of connections to one vault. The guard around the provider bounds its size."""

    def __init__(
        self, settings: AzureSettings, http: aiohttp.ClientSession, tokens: TokenSource, client: KeyClient
    ) -> None:
        self._base = settings.vault_url
        self._version = settings.api_version
        self._http = http
        self._tokens = tokens
        self._client = client
        self._authenticating = asyncio.Lock()

    @classmethod
    async def open(cls, settings: AzureSettings) -> Connection:
        """Make the connection pool and the SDK's client. Does not use the network.

        Raises:
            ConfigurationError: `ca_file` cannot be used.
        """
        http = await open_session(settings)
        transport = AioHttpTransport(session=http, session_owner=False, use_env_settings=False)
        tokens = TokenSource(lambda: credential_of(settings, transport))
        client = KeyClient(
            settings.vault_url,
            # It has the newer of the two protocols for credentials (azure-core, AsyncSupportsTokenInfo).
            cast("AsyncTokenCredential", tokens),
            transport=transport,
            verify_challenge_resource=settings.verify_challenge_resource,
            retry_total=0,
        )
        return cls(settings, http, tokens, client)

    def url(self, path: str, query: str = "") -> URL:
        """Return the URL of a path of the API."""
        return URL(f"{self._base}/{path}?api-version={self._version}{query}", encoded=True)

    async def call(self, method: str, url: URL, body: bytes | None = None, *, timeout: float) -> Answer:
        """Make one request. Before the first one, the vault is asked how to authenticate.

        Args:
            method: HTTP method.
            url: What `url` returned.
            body: JSON; None: the request has no body.
            timeout: Seconds that the call may take.

        Raises:
            ProviderError: Key Vault refused, failed or did not answer.
        """
        if timeout <= 0:
            raise ProviderTimeoutError("the deadline passed before Key Vault could be called")
        if self._http.closed:
            raise ProviderUnavailableError("the provider is closed")
        try:
            async with asyncio.timeout(timeout):
                reply = await self._reply(method, url, body)
        except TimeoutError:
            raise ProviderTimeoutError("Key Vault did not answer before the deadline") from None
        except (aiohttp.ClientError, OSError) as e:
            raise ProviderUnavailableError("Key Vault cannot be reached") from e
        if reply.status not in {HTTPStatus.OK, HTTPStatus.NO_CONTENT}:
            raise to_provider_error(reply.status, read_failure(reply.body), seconds_of(reply.retry_after))
        return Answer(_object(reply.body), reply.request_id)

    async def aclose(self) -> None:
        """Close the client, the credential and the connections. May be called twice."""
        await self._tokens.close()
        await self._client.close()
        await self._http.close()

    async def _reply(self, method: str, url: URL, body: bytes | None) -> _Reply:
        token = self._tokens.current()
        if token is not None:
            reply = await self._send(method, url, body, token)
            if reply.status != HTTPStatus.UNAUTHORIZED:
                return reply
        async with self._authenticating:
            # Another call may have got a token while this one waited.
            newer = self._tokens.current()
            if newer is not None and newer == token:
                await self._tokens.reset()
                newer = None
            if newer is None:
                return await self._authenticated(method, url, body)
        return await self._send(method, url, body, newer)

    async def _send(self, method: str, url: URL, body: bytes | None, token: str) -> _Reply:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": _TYPE}
        async with self._http.request(
            method, url, data=body, headers=headers, allow_redirects=False, skip_auto_headers=_SKIPPED
        ) as answer:
            return _Reply(
                answer.status,
                await _read(answer),
                answer.headers.get("x-ms-request-id"),
                answer.headers.get("Retry-After"),
            )

    async def _authenticated(self, method: str, url: URL, body: bytes | None) -> _Reply:
        """Make a request through the SDK, which answers the vault's challenge."""
        request = HttpRequest(method, str(url), content=body, headers={"Content-Type": _TYPE} if body else None)
        try:
            answer = await self._client.send_request(request, retry_total=0, permit_redirects=False)
        except ClientAuthenticationError:
            raise to_provider_error(HTTPStatus.UNAUTHORIZED, read_failure(b"")) from None
        except AzureError as e:
            raise ProviderUnavailableError("Key Vault cannot be reached") from e.__cause__
        except ValueError:
            raise CredentialsRefusedError(
                "the vault asks for a token of another domain than its own; check vault_url"
            ) from None
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            await self._tokens.refused()
        headers = answer.headers
        return _Reply(answer.status_code, answer.content, headers.get("x-ms-request-id"), headers.get("Retry-After"))


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """Read a whole answer. One `read(n)` would return only what has arrived so far."""
    raw = bytearray()
    async for part in answer.content.iter_any():
        raw += part
        if len(raw) > _MAX_ANSWER:
            raise ProviderUnavailableError(f"the answer of Key Vault has more than {_MAX_ANSWER} bytes")
    return bytes(raw)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw) if raw else {}
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ProviderUnavailableError("the answer of Key Vault is not the JSON of its API")
    return value
