"""Where AWS KMS of a region is."""

from __future__ import annotations

from typing import Any

import botocore.exceptions
import botocore.session
from botocore.config import Config

from sealwright.errors import ConfigurationError
from sealwright_providers.aws.settings import AwsSettings


def client_config(**more: Any) -> Config:
    """Return the configuration of a client of the SDK that takes nothing about where AWS KMS is from the environment."""
    return Config(
        proxies={},
        use_fips_endpoint=False,
        use_dualstack_endpoint=False,
        ignore_configured_endpoint_urls=True,  # type: ignore[call-arg] # missing in botocore-stubs
        **more,
    )


def endpoint_of(session: botocore.session.Session, settings: AwsSettings) -> str:
    """Return the configured endpoint, or the region's own as the SDK knows it; never one of the environment. Reads files.

    Raises:
        ConfigurationError: The SDK knows no such region.
    """
    if settings.endpoint_url is not None:
        return settings.endpoint_url
    try:
        session.get_partition_for_region(settings.region)
    except botocore.exceptions.UnknownRegionError:
        raise ConfigurationError(["the AWS SDK knows no such region; set endpoint_url"]) from None
    # The SDK shows its endpoints only by way of a client. This one is never used, so that any credentials will do.
    client = session.create_client(
        "kms",
        region_name=settings.region,
        config=client_config(),
        aws_access_key_id="none",
        aws_secret_access_key="none",  # noqa: S106
    )
    try:
        return client.meta.endpoint_url
    finally:
        client.close()
