"""The service's own Google credentials. google-auth finds and renews them, always in a thread, since it uses files and the network.

The plug-in of google-auth for gRPC is not used: it starts a thread for each call, and turns every problem of the credentials into
UNAVAILABLE with a text of its own.
"""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Protocol

import google.auth
from google.auth import aws, exceptions, identity_pool, pluggable
from google.auth.transport.requests import Request
from google.oauth2 import service_account

from sealwright.provider import ConfigurationError, ProviderError, ProviderUnavailableError
from sealwright_providers.gcp.errors import CredentialsRefusedError

log = logging.getLogger(__name__)

SCOPE: Final = "https://www.googleapis.com/auth/cloudkms"
Headers = tuple[tuple[str, str], ...]

_SERVICE_URL: Final = "https://cloudkms.googleapis.com/"
_REQUEST_SECONDS: Final = 10
"""For one request to a token endpoint or metadata server. google-auth itself would wait for 120 s."""
_EARLY_SECONDS: Final = 225.0
"""A token is renewed so long before it expires, as google-auth does, while calls use the old one."""
_LAST_SECONDS: Final = 15.0
"""Calls wait for the renewal of a token that expires sooner."""
_PAUSE_SECONDS: Final = 1.0
"""Pause after a renewal that failed, so that missing credentials do not cause one for every call."""
_RENEWAL_SECONDS: Final = 10.0
"""Pause between two renewals in the background: a metadata server may return the same token for minutes."""


class GoogleCredentials(Protocol):
    """What is needed of `google.auth.credentials.Credentials`."""

    expiry: datetime | None

    def refresh(self, request: Any) -> None:
        """Fetch or sign a new token. Blocks."""

    def before_request(self, request: Any, method: str, url: str, headers: dict[str, str]) -> None:
        """Add the headers of a request. Blocks where the token has to be renewed."""


def load(path: str | None) -> GoogleCredentials:
    """Load credentials from a file, or find the Application Default Credentials. Blocks.

    Args:
        path: Key of a service account, or configuration of workload identity federation, as JSON; None: the default ones.

    Raises:
        ConfigurationError: There are none, or they cannot be used.
    """
    try:
        found: Any = google.auth.default(scopes=[SCOPE])[0] if path is None else _from_file(path)
    except exceptions.DefaultCredentialsError as e:
        raise ConfigurationError(
            ["no Google credentials found: set credentials_file, or provide Application Default Credentials"]
        ) from e
    except (OSError, ValueError, KeyError, TypeError, AttributeError, exceptions.GoogleAuthError) as e:
        # Only the class name: the text may contain parts of the key.
        raise ConfigurationError([f"credentials_file: the file cannot be used ({type(e).__name__})"]) from None
    if isinstance(found, service_account.Credentials):
        # The service account signs its own tokens (AIP-4111), so no token endpoint has to be reached.
        return found.with_always_use_jwt_access(True)  # type: ignore[no-any-return,no-untyped-call] # noqa: FBT003
    return found  # type: ignore[no-any-return]


def _from_file(path: str) -> Any:
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - a path of the configuration
        info = json.load(file)
    kind = info.get("type")
    if kind == "service_account":
        return service_account.Credentials.from_service_account_info(info, scopes=[SCOPE])  # type: ignore[no-untyped-call]
    if kind == "external_account":
        source: Any = identity_pool
        if info.get("subject_token_type") == "urn:ietf:params:aws:token-type:aws4_request":
            source = aws
        elif "executable" in info.get("credential_source", {}):
            source = pluggable
        return source.Credentials.from_info(info, scopes=[SCOPE])
    raise ConfigurationError(["credentials_file: `type` must be service_account or external_account"])


class CredentialSource:
    """Keeps one set of request headers with a valid token for all calls. The event loop never waits for google-auth."""

    def __init__(self, credentials: GoogleCredentials) -> None:
        self._credentials = credentials
        self._headers: Headers = ()
        self._renew_at = 0.0
        self._end = 0.0
        self._job: asyncio.Task[None] | None = None
        self._not_before = 0.0
        self._failure: type[ProviderError] = ProviderUnavailableError

    def valid(self) -> Headers | None:
        """Return the headers of a call; None: the token is due to be renewed, so ask `headers`."""
        return self._headers if asyncio.get_running_loop().time() < self._renew_at else None

    async def headers(self) -> Headers:
        """Return the headers of a call: `authorization`, and `x-goog-user-project` where there is a quota project.

        Raises:
            ProviderError: There is no valid token, and it cannot be renewed.
        """
        now = asyncio.get_running_loop().time()
        if now < self._renew_at:
            return self._headers
        job = self._renewal(now)
        if now >= self._end:
            if job is not None:
                # Others wait for the same renewal, so a caller that is cancelled must not end it.
                await asyncio.wait((job,))
            if asyncio.get_running_loop().time() >= self._end:
                raise self._failure("the service's Google credentials are missing, refused or cannot be renewed")
        return self._headers

    def refused(self, headers: Headers) -> None:
        """Have the next call fetch a new token, because Google has just refused this one."""
        now = asyncio.get_running_loop().time()
        if headers == self._headers and now >= self._not_before:
            self._renew_at = self._end = now
            self._failure = CredentialsRefusedError

    async def aclose(self) -> None:
        """Stop the renewal. A thread that is still renewing ends by itself."""
        if self._job is not None:
            self._job.cancel()
            await asyncio.wait((self._job,))

    def _renewal(self, now: float) -> asyncio.Task[None] | None:
        """Return the running renewal, or start one; None: it is too soon for another."""
        if self._job is None and now >= self._not_before:
            self._job = asyncio.get_running_loop().create_task(self._renew())
        return self._job

    async def _renew(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            headers, seconds = await asyncio.to_thread(_fetch, self._credentials)
        except Exception as e:  # noqa: BLE001 - google-auth runs other programs and parses their files
            self._failure = ProviderUnavailableError if _is_passing(e) else CredentialsRefusedError
            self._not_before = loop.time() + _PAUSE_SECONDS
            # Only the class name: texts of google-auth name service accounts, files and URLs.
            log.warning("Google credentials cannot be renewed (%s)", type(e).__name__)
        else:
            now = loop.time()
            self._headers = headers
            self._end = now + seconds - min(_LAST_SECONDS, seconds / 2)
            self._renew_at = min(self._end, now + max(seconds - _EARLY_SECONDS, _RENEWAL_SECONDS))
            self._not_before = now + _PAUSE_SECONDS
        finally:
            self._job = None


def _fetch(credentials: GoogleCredentials) -> tuple[Headers, float]:
    """Return new headers, and the seconds for which they are valid."""
    request = partial(Request(), timeout=_REQUEST_SECONDS)
    credentials.refresh(request)
    headers: dict[str, str] = {}
    credentials.before_request(request, "POST", _SERVICE_URL, headers)
    if credentials.expiry is None:
        return tuple(headers.items()), float("inf")
    # google-auth has naive times in UTC.
    left = credentials.expiry.replace(tzinfo=UTC) - datetime.now(UTC)
    return tuple(headers.items()), max(0.0, left.total_seconds())


def _is_passing(error: BaseException) -> bool:
    """Tell whether trying again later may help: the source of the credentials cannot be reached, or says so."""
    if isinstance(error, exceptions.TransportError | exceptions.TimeoutError):
        return True
    if isinstance(error.__cause__, exceptions.TransportError):
        return True
    return isinstance(error, exceptions.GoogleAuthError) and error.retryable
