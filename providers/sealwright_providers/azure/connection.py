"""Requests to one vault, made once each.

The SDK's pipeline authenticates: it reads the vault's challenge, checks that it names the vault's own domain, and gets the token.
All other requests carry that token and go straight to a pool of connections of our own, which takes a tenth of the pipeline's CPU
time.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urlsplit

import aiohttp
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError
from azure.core.pipeline.transport import AioHttpTransport
from azure.core.rest import HttpRequest
from azure.keyvault.keys.aio import KeyClient

from sealwright.provider import ProviderTimeoutError, ProviderUnavailableError
from sealwright_providers.azure.credentials import TokenSource, credential_of
from sealwright_providers.azure.errors import CredentialsRefusedError, read_failure, seconds_of, to_provider_error
from sealwright_providers.azure.session import open_session, tls_context
from sealwright_providers.azure.settings import AzureSettings
from sealwright_providers.dial import BadAnswerError, Server
from sealwright_providers.http1.connection import Reply
from sealwright_providers.http1.pool import Pool

_TYPE: Final = "application/json"
_HTTPS_PORT: Final = 443


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer of Key Vault.

    Attributes:
        fields: Its JSON object.
        request_id: The ID of the request in the vault's own log; None if the answer has none.
    """

    fields: dict[str, Any]
    request_id: str | None


class _Request(NamedTuple):
    method: str
    target: str
    body: bytes | None
    repeatable: bool


class Connection:
    """A pool of connections to one vault. The guard around the provider bounds its size."""

    def __init__(
        self,
        settings: AzureSettings,
        pool: Pool,
        http: aiohttp.ClientSession,
        tokens: TokenSource,
        client: KeyClient,
    ) -> None:
        self._base = settings.vault_url
        self._host = urlsplit(settings.vault_url).netloc
        self._version = settings.api_version
        self._pool = pool
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
        context = await asyncio.to_thread(tls_context, settings)
        vault = urlsplit(settings.vault_url)
        pool = Pool(Server(vault.hostname or "", vault.port or _HTTPS_PORT, context))
        http = open_session(context)
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
        return cls(settings, pool, http, tokens, client)

    def target(self, path: str, query: str = "") -> str:
        """Return the request target (RFC 9112 §3.2.1) of a path of the API."""
        return f"/{path}?api-version={self._version}{query}"

    async def call(
        self, method: str, target: str, body: bytes | None = None, *, timeout: float, repeatable: bool = False
    ) -> Answer:
        """Make one request. Before the first one, the vault is asked how to authenticate.

        Args:
            method: HTTP method.
            target: What `target` returned.
            body: JSON; None: the request has no body.
            timeout: Seconds that the call may take.
            repeatable: Whether the vault may get the request twice, if a connection dies under it.

        Raises:
            ProviderError: Key Vault refused, failed or did not answer.
        """
        if timeout <= 0:
            raise ProviderTimeoutError("the deadline passed before Key Vault could be called")
        if self._pool.closed:
            raise ProviderUnavailableError("the provider is closed")
        end = asyncio.get_running_loop().time() + timeout
        try:
            reply = await self._reply(_Request(method, target, body, repeatable), end)
        except TimeoutError:
            raise ProviderTimeoutError("Key Vault did not answer before the deadline") from None
        except (BadAnswerError, aiohttp.ClientError, OSError) as e:
            raise ProviderUnavailableError("Key Vault cannot be reached") from e
        if reply.status not in {HTTPStatus.OK, HTTPStatus.NO_CONTENT}:
            failure, request_id = read_failure(reply.body), reply.text(b"x-ms-request-id")
            raise to_provider_error(reply.status, failure, seconds_of(reply.text(b"retry-after")), request_id)
        return Answer(_object(reply.body), reply.text(b"x-ms-request-id"))

    def time_error(self) -> float | None:
        """See `Timekeeper.time_error`."""
        return self._pool.time_error()

    async def aclose(self) -> None:
        """Close the client, the credential and the connections. May be called twice."""
        await self._tokens.close()
        await self._client.close()
        await self._http.close()
        await self._pool.aclose()

    async def _reply(self, request: _Request, end: float) -> Reply:
        token = self._tokens.current()
        if token is not None:
            reply = await self._send(request, token, end)
            if reply.status != HTTPStatus.UNAUTHORIZED:
                return reply
        async with asyncio.timeout_at(end), self._authenticating:
            # Another call may have got a token while this one waited.
            newer = self._tokens.current()
            if newer is not None and newer == token:
                await self._tokens.reset()
                newer = None
            if newer is None:
                return await self._authenticated(request)
        return await self._send(request, newer, end)

    async def _send(self, request: _Request, token: str, end: float) -> Reply:
        body = request.body or b""
        head = (
            f"{request.method} {request.target} HTTP/1.1\r\nhost: {self._host}\r\nauthorization: Bearer {token}\r\n"
            f"content-type: {_TYPE}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        left = end - asyncio.get_running_loop().time()
        return await self._pool.request(head.encode("ascii") + body, timeout=left, repeatable=request.repeatable)

    async def _authenticated(self, request: _Request) -> Reply:
        """Make a request through the SDK, which answers the vault's challenge."""
        url, body = self._base + request.target, request.body
        sent = HttpRequest(request.method, url, content=body, headers={"Content-Type": _TYPE} if body else None)
        try:
            answer = await self._client.send_request(sent, retry_total=0, permit_redirects=False)
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
        headers = {name.lower().encode(): value.encode("latin-1") for name, value in answer.headers.items()}
        return Reply(answer.status_code, headers, answer.content)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw) if raw else {}
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ProviderUnavailableError("the answer of Key Vault is not the JSON of its API")
    return value
