"""Opens an `aws` provider."""

from __future__ import annotations

import asyncio
from typing import Final

from sealwright.provider import ConfigurationError, KeyProvider, ProviderNotInstalledError
from sealwright_providers.aws.settings import AwsSettings


class AwsFactory:
    """Factory of `aws` providers. Importing it does not import the SDK."""

    kind = "aws"
    settings = AwsSettings

    async def open(self, settings: AwsSettings) -> KeyProvider:
        """Build the client. This makes the SDK's session once, since making clients is not thread-safe (boto/boto3#1592).

        Raises:
            ProviderNotInstalledError: boto3 is not installed.
            ConfigurationError: The SDK cannot be set up, or does not know the region.
        """
        try:
            from botocore.exceptions import BotoCoreError  # noqa: PLC0415

            from sealwright_providers.aws.boto3_transport import Boto3Transport  # noqa: PLC0415
            from sealwright_providers.aws.http_transport import HttpTransport  # noqa: PLC0415
        except ImportError as e:
            raise ProviderNotInstalledError(["kind aws needs boto3: install sealwright[aws]"]) from e
        from sealwright_providers.aws.provider import AwsProvider  # noqa: PLC0415

        try:
            if settings.transport == "boto3":
                return AwsProvider(settings, await asyncio.to_thread(Boto3Transport, settings))
            return AwsProvider(settings, await HttpTransport.open(settings))
        except BotoCoreError as e:
            # For example a profile that does not exist, or a file that cannot be parsed.
            raise ConfigurationError([f"the AWS SDK cannot be set up ({type(e).__name__})"]) from e


FACTORY: Final = AwsFactory()
