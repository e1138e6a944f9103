"""The service's own AWS credentials. botocore's chain finds and renews them, always in a thread, since it may use the network."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import botocore.credentials
import botocore.session

from sealwright.provider import ProviderError, ProviderUnavailableError
from sealwright_providers.aws.errors import CredentialsRefusedError
from sealwright_providers.aws.sigv4 import Credentials

log = logging.getLogger(__name__)

_LAST_SECONDS: Final = 15
"""Calls wait for the renewal of credentials that expire sooner. Before that, the renewal runs while calls use the old ones."""
_PAUSE_SECONDS: Final = 1.0
"""Pause after a search that found nothing new, so that missing credentials do not cause a search for every call."""
_RENEWAL_SECONDS: Final = 5.0
"""Pause between two renewals in the background: the source may return the same credentials for minutes."""


class _NoCredentialsError(Exception):
    """No source in the chain has credentials."""


class CredentialSource:
    """Finds credentials once for all callers, and renews them. The event loop never waits for botocore."""

    def __init__(self, session: botocore.session.Session) -> None:
        self._session = session
        self._source: botocore.credentials.Credentials | None = None
        self._known: Credentials | None = None
        self._job: asyncio.Task[None] | None = None
        self._not_before = 0.0
        self._next_renewal = 0.0
        self._failure: type[ProviderError] = ProviderUnavailableError

    def ready(self) -> Credentials | None:
        """Return the credentials that need no renewal, without waiting; None: `current` may have to wait."""
        source = self._source
        if self._known is None or (
            isinstance(source, botocore.credentials.RefreshableCredentials) and self._ends_within(None)
        ):
            return None
        return self._known

    async def current(self) -> Credentials:
        """Return the current credentials.

        Raises:
            ProviderError: There are none, or they have expired and cannot be renewed.
        """
        known = self._known
        if known is None or self._ends_within(_LAST_SECONDS):
            await self._job_done(self._renewal(from_start=False))
            known = self._known
            if known is None or self._ends_within(0):
                raise self._failure("no AWS credentials found, or they have expired and cannot be renewed")
        elif self._ends_within(None) and asyncio.get_running_loop().time() >= self._next_renewal:
            self._renewal(from_start=False)
        return known

    async def other_than(self, refused: Credentials) -> Credentials | None:
        """Return credentials other than those that AWS KMS has just refused; None: there are none.

        The search begins at the start of the chain, so that it notices a file that was replaced.
        """
        if self._known == refused:
            await self._job_done(self._renewal(from_start=True))
        return None if self._known == refused else self._known

    async def aclose(self) -> None:
        """Stop the search. A thread that is still searching ends by itself."""
        if self._job is not None:
            self._job.cancel()
            await asyncio.wait((self._job,))

    def _ends_within(self, seconds: int | None) -> bool:
        """Tell whether the credentials expire within so many seconds; None: so soon that botocore recommends a renewal."""
        source = self._source
        return isinstance(source, botocore.credentials.RefreshableCredentials) and bool(source.refresh_needed(seconds))

    def _renewal(self, *, from_start: bool) -> asyncio.Task[None] | None:
        """Return the running renewal, or start one; None: it is too soon for another."""
        loop = asyncio.get_running_loop()
        if self._job is None and loop.time() >= self._not_before:
            self._next_renewal = loop.time() + _RENEWAL_SECONDS
            self._job = loop.create_task(self._renew(None if from_start else self._source))
        return self._job

    async def _job_done(self, job: asyncio.Task[None] | None) -> None:
        # Others wait for the same renewal, so a caller that is cancelled must not end it.
        if job is not None:
            await asyncio.wait((job,))

    async def _renew(self, source: botocore.credentials.Credentials | None) -> None:
        loop = asyncio.get_running_loop()
        try:
            found, credentials = await asyncio.to_thread(_fetch, self._session, source)
        except Exception as e:  # noqa: BLE001 - the chain runs other programs and parses their files
            self._failure = CredentialsRefusedError if isinstance(e, _NoCredentialsError) else ProviderUnavailableError
            self._not_before = loop.time() + _PAUSE_SECONDS
            # Only the class name: texts of the SDK name roles and files.
            log.warning("AWS credentials cannot be found or renewed (%s)", type(e).__name__)
        else:
            self._not_before = loop.time() + (_PAUSE_SECONDS if credentials == self._known else 0)
            self._source, self._known = found, credentials
        finally:
            self._job = None


def _fetch(
    session: botocore.session.Session, source: botocore.credentials.Credentials | None
) -> tuple[botocore.credentials.Credentials, Credentials]:
    if source is None:
        # The session would return what it found before. Its chain searches again.
        source = session.get_component("credential_provider").load_credentials()
    if source is None:
        raise _NoCredentialsError
    frozen = source.get_frozen_credentials()
    return source, Credentials(frozen.access_key or "", frozen.secret_key or "", frozen.token or None)
