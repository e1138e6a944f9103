"""The service's own credentials at AWS. botocore's chain finds and renews them, always in a thread: it may ask the network."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import botocore.credentials
import botocore.session

from sealwright.errors import ProviderError, ProviderUnavailableError
from sealwright_providers.aws.errors import CredentialsRefusedError
from sealwright_providers.aws.sigv4 import Credentials

log = logging.getLogger(__name__)

_LAST_SECONDS: Final = 15
"""Credentials that end sooner are waited for; until then they are renewed beside the calls that use them."""
_PAUSE_SECONDS: Final = 1.0
"""Between two searches where the first one brought nothing new, so that a lack of credentials makes no storm of its own."""
_RENEWAL_SECONDS: Final = 5.0
"""Between two renewals beside the calls: what stands behind the chain may go on giving out the same credentials for minutes."""


class _NoCredentialsError(Exception):
    """The chain has come to its end."""


class CredentialSource:
    """Finds credentials once, whoever asks for them, and keeps them fresh. The event loop never waits for botocore."""

    def __init__(self, session: botocore.session.Session) -> None:
        self._session = session
        self._source: botocore.credentials.Credentials | None = None
        self._known: Credentials | None = None
        self._job: asyncio.Task[None] | None = None
        self._not_before = 0.0
        self._next_renewal = 0.0
        self._failure: type[ProviderError] = ProviderUnavailableError

    async def current(self) -> Credentials:
        """Return the credentials of now.

        Raises:
            ProviderError: There are none, or they have run out and cannot be renewed.
        """
        known = self._known
        if known is None or self._ends_within(_LAST_SECONDS):
            await self._job_done(self._renewal(anew=False))
            known = self._known
            if known is None or self._ends_within(0):
                raise self._failure("the service has no AWS credentials, or cannot renew them")
        elif self._ends_within(None) and asyncio.get_running_loop().time() >= self._next_renewal:
            self._renewal(anew=False)
        return known

    async def other_than(self, refused: Credentials) -> Credentials | None:
        """Return other credentials than those that AWS KMS has just refused; None: there are none.

        They are looked for from the start of the chain, so that a file that was replaced is noticed.
        """
        if self._known == refused:
            await self._job_done(self._renewal(anew=True))
        return None if self._known == refused else self._known

    async def aclose(self) -> None:
        """Stop looking. A thread that is still at it ends by itself."""
        if self._job is not None:
            self._job.cancel()
            await asyncio.wait((self._job,))

    def _ends_within(self, seconds: int | None) -> bool:
        """Tell whether the credentials end that soon; None: so soon that botocore advises to renew them."""
        source = self._source
        return isinstance(source, botocore.credentials.RefreshableCredentials) and bool(source.refresh_needed(seconds))

    def _renewal(self, *, anew: bool) -> asyncio.Task[None] | None:
        """Return the renewal that is under way, a new one if there is none; None: it is too soon for another."""
        loop = asyncio.get_running_loop()
        if self._job is None and loop.time() >= self._not_before:
            self._next_renewal = loop.time() + _RENEWAL_SECONDS
            self._job = loop.create_task(self._renew(None if anew else self._source))
        return self._job

    async def _job_done(self, job: asyncio.Task[None] | None) -> None:
        # Others wait for the same renewal, so that a caller who leaves must not end it.
        if job is not None:
            await asyncio.wait((job,))

    async def _renew(self, source: botocore.credentials.Credentials | None) -> None:
        loop = asyncio.get_running_loop()
        try:
            found, credentials = await asyncio.to_thread(_fetch, self._session, source)
        except Exception as e:  # noqa: BLE001 - the chain runs programs and parses files of others
            self._failure = CredentialsRefusedError if isinstance(e, _NoCredentialsError) else ProviderUnavailableError
            self._not_before = loop.time() + _PAUSE_SECONDS
            # The name alone: texts of the SDK name roles and files.
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
        # The session would give what it has found before; its chain looks again.
        source = session.get_component("credential_provider").load_credentials()
    if source is None:
        raise _NoCredentialsError
    frozen = source.get_frozen_credentials()
    return source, Credentials(frozen.access_key or "", frozen.secret_key or "", frozen.token or "")
