"""AWS KMS over HTTP from the event loop: JSON 1.1, signed here; botocore finds the credentials and renews them."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import botocore.credentials
import botocore.session

from sealwright.errors import ProviderAccessDeniedError, ProviderError, ProviderTimeoutError, ProviderUnavailableError
from sealwright_providers.aws.errors import EXPIRED, to_provider_error
from sealwright_providers.aws.settings import AwsSettings
from sealwright_providers.aws.sigv4 import Credentials, Signer
from sealwright_providers.aws.transport import Answer

_TARGET: Final = "TrentService."
_BLOBS: Final = ("PublicKey", "Signature")
_MAX_ANSWER: Final = 1024 * 1024


class HttpTransport:
    """A pool of connections to one endpoint. Its size is bounded by the guard around the provider."""

    def __init__(self, settings: AwsSettings, session: botocore.session.Session, http: aiohttp.ClientSession) -> None:
        self._endpoint = settings.endpoint_url or _regional_endpoint(session, settings.region)
        self._signer = Signer(settings.region, _host(self._endpoint))
        self._session = session
        self._credentials: botocore.credentials.Credentials | None = None
        self._renewing = asyncio.Lock()
        self._http = http

    @classmethod
    async def open(cls, settings: AwsSettings) -> HttpTransport:
        """Make the SDK's session, in a thread since it reads files, and the connection pool."""
        session = await asyncio.to_thread(botocore.session.Session)
        # No environment proxies: endpoints come from the configuration alone.
        http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        return cls(settings, session, http)

    async def call(self, operation: str, fields: dict[str, Any], *, timeout: float) -> Answer:
        """See `Transport.call`. Credentials that have expired meanwhile are renewed, and the call made once more."""
        body = json.dumps(fields, default=_blob, separators=(",", ":")).encode()
        try:
            async with asyncio.timeout(timeout):
                status, raw, request_id, retry_after = await self._post(operation, body)
                if status != HTTPStatus.OK and _code(raw) in EXPIRED:
                    self._credentials = None
                    status, raw, request_id, retry_after = await self._post(operation, body)
        except TimeoutError:
            raise ProviderTimeoutError("AWS KMS did not answer in time") from None
        except aiohttp.ClientError as e:
            raise ProviderUnavailableError("AWS KMS cannot be reached") from e
        if status != HTTPStatus.OK:
            raise to_provider_error(_code(raw), status, retry_after)
        return Answer(_fields(raw), request_id)

    async def aclose(self) -> None:
        """Close the connections. May be called twice."""
        await self._http.close()

    async def _post(self, operation: str, body: bytes) -> tuple[int, bytes, str, float | None]:
        credentials = await self._frozen()
        headers = self._signer.headers(credentials, _TARGET + operation, body, datetime.now(UTC))
        async with self._http.post(
            self._endpoint + "/",
            data=body,
            headers=headers,
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        ) as answer:
            raw = await answer.content.read(_MAX_ANSWER)
            request_id = answer.headers.get("x-amzn-RequestId", "")
            return answer.status, raw, request_id, _seconds(answer.headers.get("Retry-After"))

    async def _frozen(self) -> Credentials:
        """Return the credentials of now. Finding and renewing them may ask the network, so that is done in a thread."""
        source = self._credentials
        if source is None or _stale(source):
            async with self._renewing:
                source = self._credentials
                if source is None:
                    source = await asyncio.to_thread(_find_credentials, self._session)
                    self._credentials = source
                if _stale(source):
                    await asyncio.to_thread(_freeze, source)
        frozen = _freeze(source)
        return Credentials(frozen.access_key or "", frozen.secret_key or "", frozen.token or "")


def _find_credentials(session: botocore.session.Session) -> botocore.credentials.Credentials:
    # The session caches what it found; a component of its own finds anew, so that rotated files and expired tokens are noticed.
    credentials = session.get_component("credential_provider").load_credentials()
    if credentials is None:
        raise ProviderAccessDeniedError("the service has no AWS credentials")
    return credentials  # type: ignore[no-any-return]


def _stale(source: botocore.credentials.Credentials) -> bool:
    return isinstance(source, botocore.credentials.RefreshableCredentials) and bool(source.refresh_needed())


def _freeze(source: botocore.credentials.Credentials) -> botocore.credentials.ReadOnlyCredentials:
    try:
        return source.get_frozen_credentials()
    except ProviderError:
        raise
    except Exception as e:
        raise ProviderUnavailableError("the AWS credentials cannot be renewed") from e


def _regional_endpoint(session: botocore.session.Session, region: str) -> str:
    resolved = session.get_component("endpoint_resolver").construct_endpoint("kms", region)
    return f"https://{resolved['hostname']}"


def _host(endpoint: str) -> str:
    """Return the Host header: without the port where it is the scheme's own."""
    parts = urlsplit(endpoint)
    default = {"http": 80, "https": 443}[parts.scheme]
    return parts.netloc if parts.port not in {None, default} else str(parts.hostname)


def _blob(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    raise TypeError("not a value of the AWS API")


def _object(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _code(raw: bytes) -> str:
    """Return the error code: the `__type`, which may carry a namespace before a `#`."""
    return str(_object(raw).get("__type", "")).rpartition("#")[2]


def _fields(raw: bytes) -> dict[str, Any]:
    fields = _object(raw)
    try:
        return fields | {name: base64.b64decode(fields[name], validate=True) for name in _BLOBS if name in fields}
    except (binascii.Error, TypeError, ValueError):
        raise ProviderUnavailableError("AWS KMS answered no JSON of its API") from None


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after and retry_after.isdigit() else None
