"""AWS KMS over HTTP from the event loop: JSON 1.1, signed here. botocore finds and renews the credentials."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import botocore.session

from sealwright.provider import ProviderTimeoutError, ProviderUnavailableError
from sealwright_providers.aws.credentials import CredentialSource
from sealwright_providers.aws.endpoint import Session, endpoint_of
from sealwright_providers.aws.errors import REPLACEABLE, to_provider_error
from sealwright_providers.aws.identity import account_of
from sealwright_providers.aws.settings import AwsSettings
from sealwright_providers.aws.sigv4 import Credentials, Signer
from sealwright_providers.aws.transport import REPEATABLE, Answer
from sealwright_providers.dial import BadAnswerError, Server, tls_context
from sealwright_providers.http1.connection import Reply
from sealwright_providers.http1.pool import Pool

_TARGET: Final = "TrentService."
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_BLOBS: Final = ("Mac", "PublicKey", "Signature")
_OK: Final = int(HTTPStatus.OK)


class HttpTransport:
    """A pool of connections to one endpoint. The guard around the provider bounds its size.

    Attributes:
        endpoint: URL of the endpoint.
    """

    def __init__(self, settings: AwsSettings, endpoint: str, session: botocore.session.Session, pool: Pool) -> None:
        self.endpoint = endpoint
        self._settings = settings
        self._session = session
        self._signer = Signer(settings.region, _host(endpoint))
        self._credentials = CredentialSource(session)
        self._pool = pool
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, settings: AwsSettings) -> HttpTransport:
        """Make the SDK's session, in a thread since it reads files, and the connection pool.

        Raises:
            ConfigurationError: The SDK does not know the region, or `ca_file` cannot be used.
        """
        session = await asyncio.to_thread(Session, settings)
        endpoint = await asyncio.to_thread(endpoint_of, session, settings)
        parts = urlsplit(endpoint)
        context = await asyncio.to_thread(tls_context, settings.ca_file) if parts.scheme == "https" else None
        port = parts.port or _DEFAULT_PORTS[parts.scheme]
        # No proxies from the environment: only the configuration says where requests go.
        return cls(
            settings, endpoint, session, Pool(Server(parts.hostname or "", port, context, settings.proxy_address))
        )

    async def call(self, operation: str, fields: dict[str, Any], *, timeout: float) -> Answer:
        """See `Transport.call`. If AWS no longer accepts the credentials and there are others, it repeats the call once."""
        if timeout <= 0:
            raise ProviderTimeoutError("the deadline passed before AWS KMS could be called")
        if self._pool.closed:
            raise ProviderUnavailableError("the provider is closed")
        body = _json(fields).encode()
        try:
            reply = await self._reply(operation, body, self._loop.time() + timeout)
        except TimeoutError:
            raise ProviderTimeoutError("AWS KMS did not answer before the deadline") from None
        except (BadAnswerError, OSError) as e:
            raise ProviderUnavailableError("AWS KMS cannot be reached") from e
        if reply.status != _OK:
            raise to_provider_error(
                _code(reply.body),
                reply.status,
                _seconds(reply.text(b"retry-after")),
                text=_text(reply.body),
                request_id=reply.text(b"x-amzn-requestid"),
            )
        return Answer(_fields(reply.body), reply.text(b"x-amzn-requestid"))

    def time_error(self) -> float | None:
        """See `Timekeeper.time_error`."""
        return self._pool.time_error()

    async def account(self, *, timeout: float) -> str:
        """See `Transport.account`."""
        return await account_of(self._session, self._settings, await self._credentials.current(), timeout)

    async def aclose(self) -> None:
        """Close the connections. May be called twice."""
        await self._credentials.aclose()
        await self._pool.aclose()

    async def _reply(self, operation: str, body: bytes, end: float) -> Reply:
        credentials = self._credentials.ready()
        if credentials is None:
            async with asyncio.timeout_at(end):
                credentials = await self._credentials.current()
        reply = await self._post(operation, body, credentials, end)
        if reply.status == _OK or _code(reply.body) not in REPLACEABLE:
            return reply
        async with asyncio.timeout_at(end):
            others = await self._credentials.other_than(credentials)
        return reply if others is None else await self._post(operation, body, others, end)

    async def _post(self, operation: str, body: bytes, credentials: Credentials, end: float) -> Reply:
        message = self._signer.request(credentials, _TARGET + operation, body, time.time())
        left = end - self._loop.time()
        return await self._pool.request(message, timeout=left, repeatable=operation in REPEATABLE)


def _host(endpoint: str) -> str:
    """Return the Host header, without the port if it is the default of the scheme."""
    parts = urlsplit(endpoint)
    default = _DEFAULT_PORTS[parts.scheme]
    return parts.netloc.removesuffix(f":{default}") if parts.port in {None, default} else parts.netloc


def _blob(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    raise TypeError("not a value of the AWS API")


_json: Final = json.JSONEncoder(default=_blob, separators=(",", ":")).encode


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(raw.decode())
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _code(raw: bytes) -> str:
    """Return the error's name. `__type` may have a namespace and `#` before it, or `:` and a URI after it."""
    kind = str((_object(raw) or {}).get("__type", ""))
    return kind.partition(":")[0].rpartition("#")[2]


def _text(raw: bytes) -> str:
    fields = _object(raw) or {}
    return str(fields.get("message") or fields.get("Message") or "")


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
