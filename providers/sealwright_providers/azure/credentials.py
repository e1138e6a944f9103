"""The service's own identity. azure-identity gets and renews its tokens, and never in the path of a signature."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self

import azure.identity.aio as identity
from azure.core.credentials import AccessTokenInfo, TokenRequestOptions
from azure.core.credentials_async import AsyncSupportsTokenInfo
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
from azure.core.pipeline.transport import AioHttpTransport
from azure.identity import CredentialUnavailableError

from sealwright.provider import ProviderError, ProviderUnavailableError
from sealwright_providers.azure.errors import CredentialsRefusedError
from sealwright_providers.azure.settings import AzureSettings

log = logging.getLogger(__name__)

_EARLY_SECONDS: Final = 300
"""A token is renewed in the background this long before its end, or from the time on that Entra ID names. Until then calls use the
old one. azure-identity itself renews a token in the same span."""
_LAST_SECONDS: Final = 15
"""Calls wait for a new token if the old one ends sooner."""
_PAUSE_SECONDS: Final = 1.0
"""Pause after a failure, so that missing credentials do not cause a request to the token endpoint for every call."""
_RENEWAL_SECONDS: Final = 30.0
"""Pause between two renewals in the background."""


_TOKEN_FILE: Final = "AZURE_FEDERATED_TOKEN_FILE"  # noqa: S105 - the name of a variable
"""Where the workload identity webhook of Kubernetes says that the cluster's token is."""


class TokenSource:
    """Gives the SDK its tokens, and keeps the last one for requests that do not pass through the SDK.

    The SDK knows from the vault's challenge which token is needed, and asks for it here. A credential that fails is made again from
    its files, so that a replaced secret or certificate is noticed.

    Args:
        build: Makes the credential. May read files: it runs in a thread.
    """

    def __init__(self, build: Callable[[], AsyncSupportsTokenInfo]) -> None:
        self._build = build
        self._credential: AsyncSupportsTokenInfo | None = None
        self._token: AccessTokenInfo | None = None
        self._asked: tuple[tuple[str, ...], TokenRequestOptions] = ((), {})
        self._job: asyncio.Task[None] | None = None
        self._not_before = 0.0
        self._next_renewal = 0.0
        self._failure: type[ProviderError] = ProviderUnavailableError

    def current(self) -> str | None:
        """Return the last token, and renew it in the background in good time; None: there is none, or it is about to end."""
        token = self._token
        if token is None:
            return None
        now = time.time()
        if now >= token.expires_on - _LAST_SECONDS:
            return None
        if now >= min(token.refresh_on or token.expires_on, token.expires_on - _EARLY_SECONDS):
            self._renew_soon()
        return token.token

    async def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        """Get a token: the protocol by which the SDK asks for one (azure-core, AsyncSupportsTokenInfo).

        Raises:
            ProviderError: There are no credentials, Entra ID refuses them, or it cannot be reached.
        """
        loop = asyncio.get_running_loop()
        if loop.time() < self._not_before:
            raise self._failure("no token for Key Vault: the last attempt to get one failed a moment ago")
        try:
            if self._credential is None:
                self._credential = await asyncio.to_thread(self._build)
            token = await self._credential.get_token_info(*scopes, options=options or {})
        except Exception as e:  # noqa: BLE001 - the SDK runs other programs and parses their output
            error = _failure_of(e)
            await self._pause(type(error))
            # Only class names: texts of the SDK name tenants, applications and files.
            log.warning("no token for Azure Key Vault (%s: %s)", type(e).__name__, error.reason)
            raise error from None
        self._token = token
        # A claims challenge is for one token only.
        self._asked = scopes, {name: value for name, value in (options or {}).items() if name != "claims"}  # type: ignore[assignment]
        return token

    async def refused(self) -> None:
        """Forget a token that was refused although it was new, and pause before the next attempt."""
        self._token = None
        await self._pause(CredentialsRefusedError)

    async def reset(self) -> None:
        """Forget the token and the credential, which has tokens of its own: Azure no longer accepts them."""
        self._token = None
        await self._drop()

    async def close(self) -> None:
        """Stop renewing, and close the credential. May be called twice."""
        if self._job is not None:
            self._job.cancel()
            await asyncio.wait((self._job,))
        await self.reset()

    async def __aenter__(self) -> Self:
        """Part of the protocol."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Part of the protocol: close."""
        await self.close()

    async def _pause(self, failure: type[ProviderError]) -> None:
        self._not_before = asyncio.get_running_loop().time() + _PAUSE_SECONDS
        self._failure = failure
        await self._drop()

    async def _drop(self) -> None:
        """Drop the credential. The token stays in use until it ends."""
        credential, self._credential = self._credential, None
        if credential is not None:
            await credential.close()

    def _renew_soon(self) -> None:
        loop = asyncio.get_running_loop()
        if self._job is None and loop.time() >= self._next_renewal:
            self._next_renewal = loop.time() + _RENEWAL_SECONDS
            self._job = loop.create_task(self._renew())

    async def _renew(self) -> None:
        scopes, options = self._asked
        try:
            # A failure has been logged, and the old token is still good for minutes.
            with suppress(ProviderError):
                await self.get_token_info(*scopes, options=options)
        finally:
            self._job = None


def _failure_of(error: Exception) -> ProviderError:
    """Return our error for what azure-identity raises."""
    response = error.response if isinstance(error, HttpResponseError) else None
    status = (response.status_code or 0) if response is not None else 0
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        return ProviderUnavailableError("Microsoft Entra ID or the managed identity endpoint reports a failure")
    if isinstance(error, CredentialUnavailableError):
        return CredentialsRefusedError("no Azure credentials found; configure one of the sources of the provider")
    if isinstance(error, ClientAuthenticationError):
        return CredentialsRefusedError("Microsoft Entra ID refuses the service's credentials")
    if isinstance(error, AzureError):
        return ProviderUnavailableError("Microsoft Entra ID or the managed identity endpoint cannot be reached")
    # A file that cannot be read, or settings that the SDK refuses.
    return CredentialsRefusedError("the Azure credentials cannot be used; check the files and IDs of the provider")


def credential_of(settings: AzureSettings, transport: AioHttpTransport) -> AsyncSupportsTokenInfo:
    """Make the credential that the settings name. Reads files.

    Args:
        settings: The provider's settings.
        transport: The connection pool.
    """
    # The guard around the provider retries. An endpoint in the environment must not redirect the service's secret.
    network: dict[str, Any] = {
        "transport": transport,
        "retry_total": 0,
        "authority": settings.authority_url,
        "disable_instance_discovery": settings.authority is not None,
    }
    tenant, client = settings.tenant_id, settings.client_id
    match settings.credential:
        case "client_secret":
            secret = Path(str(settings.client_secret_file)).read_text(encoding="utf-8").strip()
            return identity.ClientSecretCredential(str(tenant), str(client), secret, **network)
        case "client_certificate":
            path = str(settings.client_certificate_file)
            return identity.CertificateCredential(str(tenant), str(client), path, **network)
        case "workload_identity":
            return identity.WorkloadIdentityCredential(tenant_id=tenant, client_id=client, **network)
        case "managed_identity":
            return identity.ManagedIdentityCredential(client_id=client, transport=transport, retry_total=0)
        case "cli":
            return identity.AzureCliCredential(tenant_id=tenant or "")
    return _default(tenant, client, network)


def _default(tenant: str | None, client: str | None, network: dict[str, Any]) -> AsyncSupportsTokenInfo:
    """Make the chain of credentials that need no secret in the configuration.

    The SDK's DefaultAzureCredential has the same ones, but passes `authority` to some of them only, and asks developers' tools.
    """
    chain: list[Any] = [identity.EnvironmentCredential(**network)]
    if _TOKEN_FILE in os.environ:
        chain.append(identity.WorkloadIdentityCredential(tenant_id=tenant, client_id=client, **network))
    chain += [
        identity.ManagedIdentityCredential(client_id=client, transport=network["transport"], retry_total=0),
        identity.AzureCliCredential(tenant_id=tenant or ""),
    ]
    return identity.ChainedTokenCredential(*chain)
