"""AWS KMS over HTTP from the event loop: JSON 1.1, signed here. botocore finds and renews the credentials."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import botocore.session

from sealwright.provider import ProviderTimeoutError, ProviderUnavailableError
from sealwright_providers.aws.credentials import CredentialSource
from sealwright_providers.aws.endpoint import endpoint_of
from sealwright_providers.aws.errors import REPLACEABLE, to_provider_error
from sealwright_providers.aws.settings import AwsSettings
from sealwright_providers.aws.sigv4 import Credentials, Signer
from sealwright_providers.aws.transport import Answer

_TARGET: Final = "TrentService."
_BLOBS: Final = ("Mac", "PublicKey", "Signature")
_MAX_ANSWER: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: bytes
    request_id: str | None
    retry_after: str | None


class HttpTransport:
    """A pool of connections to one endpoint. The guard around the provider bounds its size."""

    def __init__(
        self, settings: AwsSettings, endpoint: str, credentials: CredentialSource, http: aiohttp.ClientSession
    ) -> None:
        self._endpoint = endpoint
        self._signer = Signer(settings.region, _host(endpoint))
        self._credentials = credentials
        self._http = http

    @classmethod
    async def open(cls, settings: AwsSettings) -> HttpTransport:
        """Make the SDK's session, in a thread since it reads files, and the connection pool.

        Raises:
            ConfigurationError: The SDK does not know the region.
        """
        session = await asyncio.to_thread(botocore.session.Session)
        endpoint = await asyncio.to_thread(endpoint_of, session, settings)
        # No proxies from the environment: only the configuration says where requests go.
        http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        )
        return cls(settings, endpoint, CredentialSource(session), http)

    async def call(self, operation: str, fields: dict[str, Any], *, timeout: float) -> Answer:
        """See `Transport.call`. If AWS no longer accepts the credentials and there are others, it repeats the call once."""
        if timeout <= 0:
            raise ProviderTimeoutError("the deadline passed before AWS KMS could be called")
        if self._http.closed:
            raise ProviderUnavailableError("the provider is closed")
        body = json.dumps(fields, default=_blob, separators=(",", ":")).encode()
        try:
            async with asyncio.timeout(timeout):
                reply = await self._reply(operation, body)
        except TimeoutError:
            raise ProviderTimeoutError("AWS KMS did not answer before the deadline") from None
        except (aiohttp.ClientError, OSError) as e:
            raise ProviderUnavailableError("AWS KMS cannot be reached") from e
        if reply.status != HTTPStatus.OK:
            raise to_provider_error(_code(reply.body), reply.status, _seconds(reply.retry_after))
        return Answer(_fields(reply.body), reply.request_id)

    async def aclose(self) -> None:
        """Close the connections. May be called twice."""
        await self._credentials.aclose()
        await self._http.close()

    async def _reply(self, operation: str, body: bytes) -> _Reply:
        credentials = await self._credentials.current()
        reply = await self._post(operation, body, credentials)
        if reply.status == HTTPStatus.OK or _code(reply.body) not in REPLACEABLE:
            return reply
        others = await self._credentials.other_than(credentials)
        return reply if others is None else await self._post(operation, body, others)

    async def _post(self, operation: str, body: bytes, credentials: Credentials) -> _Reply:
        headers = self._signer.headers(credentials, _TARGET + operation, body, datetime.now(UTC))
        async with self._http.post(
            self._endpoint + "/",
            data=body,
            headers=headers,
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        ) as answer:
            return _Reply(
                answer.status,
                await _read(answer),
                answer.headers.get("x-amzn-RequestId"),
                answer.headers.get("Retry-After"),
            )


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """Read a whole answer. One `read(n)` would return only what has arrived so far."""
    raw = bytearray()
    async for part in answer.content.iter_any():
        raw += part
        if len(raw) > _MAX_ANSWER:
            raise ProviderUnavailableError(f"the answer of AWS KMS has more than {_MAX_ANSWER} bytes")
    return bytes(raw)


def _host(endpoint: str) -> str:
    """Return the Host header, without the port if it is the default of the scheme."""
    parts = urlsplit(endpoint)
    default = {"http": 80, "https": 443}[parts.scheme]
    return parts.netloc.removesuffix(f":{default}") if parts.port in {None, default} else parts.netloc


def _blob(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    raise TypeError("not a value of the AWS API")


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _code(raw: bytes) -> str:
    """Return the error's name. `__type` may have a namespace and `#` before it, or `:` and a URI after it."""
    kind = str((_object(raw) or {}).get("__type", ""))
    return kind.partition(":")[0].rpartition("#")[2]


def _fields(raw: bytes) -> dict[str, Any]:
    fields = _object(raw) if raw else {}  # Operations without an output have an empty answer.
    if fields is None:
        raise ProviderUnavailableError("the answer of AWS KMS is not the JSON of its API")
    try:
        return fields | {name: base64.b64decode(fields[name], validate=True) for name in _BLOBS if name in fields}
    except (binascii.Error, TypeError, ValueError):
        raise ProviderUnavailableError("the answer of AWS KMS is not the JSON of its API") from None


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else None
