"""The account that the service's credentials belong to: GetCallerIdentity of AWS STS, which needs no permission."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import botocore.exceptions
import botocore.parsers
import botocore.session

from sealwright.provider import ProviderAccessDeniedError, ProviderTimeoutError
from sealwright_providers.aws.endpoint import client_config
from sealwright_providers.aws.settings import AwsSettings, is_emulator
from sealwright_providers.aws.sigv4 import Credentials

_SECONDS: Final = 5.0


class AccountUnknownError(ProviderAccessDeniedError):
    """AWS STS does not say whose credentials these are."""


async def account_of(
    session: botocore.session.Session, settings: AwsSettings, credentials: Credentials | None, timeout: float
) -> str:
    """Return the number of the account that credentials belong to.

    STS is asked at `sts_endpoint_url`, or in the region. The environment names no endpoint.

    Args:
        session: Of the SDK.
        settings: Of the provider.
        credentials: The credentials; None: those that the session finds.
        timeout: Seconds that the call may take.

    Raises:
        AccountUnknownError: STS refuses, or cannot be reached.
        ProviderTimeoutError: It does not answer in time.
    """
    try:
        async with asyncio.timeout(timeout):
            return await asyncio.to_thread(_ask, session, settings, credentials, min(timeout, _SECONDS))
    except TimeoutError:
        raise ProviderTimeoutError("AWS STS did not answer before the deadline") from None


def _ask(
    session: botocore.session.Session, settings: AwsSettings, credentials: Credentials | None, seconds: float
) -> str:
    try:
        client: Any = session.create_client(
            "sts",
            region_name=settings.region,
            aws_access_key_id=credentials.access_key if credentials else None,
            aws_secret_access_key=credentials.secret_key if credentials else None,
            aws_session_token=credentials.token if credentials else None,
            endpoint_url=settings.sts_url,
            config=client_config(
                settings, connect_timeout=seconds, read_timeout=seconds, retries={"total_max_attempts": 1}
            ),
        )
        try:
            return str(client.get_caller_identity()["Account"])
        finally:
            client.close()
    except botocore.parsers.ResponseParserError:
        if settings.account is not None and is_emulator(settings.endpoint_url):
            return settings.account  # Not AWS, and without STS, like local-kms: there is nothing to compare.
        raise AccountUnknownError("AWS STS does not tell which account the credentials belong to") from None
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, KeyError):
        # Without the cause, whose text names the account.
        raise AccountUnknownError("AWS STS does not tell which account the credentials belong to") from None
