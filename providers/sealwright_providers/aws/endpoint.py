"""The endpoint of AWS KMS in a region."""

from __future__ import annotations

import logging
from typing import Any

import botocore.exceptions
import botocore.session
from botocore.config import Config

from sealwright.provider import ConfigurationError
from sealwright_providers.aws.settings import AwsSettings, is_exposed

log = logging.getLogger(__name__)


def client_config(**more: Any) -> Config:
    """Return the configuration of an SDK client that takes no endpoint or proxy from the environment."""
    return Config(
        proxies={},
        use_fips_endpoint=False,
        use_dualstack_endpoint=False,
        ignore_configured_endpoint_urls=True,  # type: ignore[call-arg] # missing in botocore-stubs
        **more,
    )


def endpoint_of(session: botocore.session.Session, settings: AwsSettings) -> str:
    """Return the configured endpoint, or the region's own from the SDK's data; never one from the environment. Reads files.

    Raises:
        ConfigurationError: The SDK does not know the region.
    """
    if settings.endpoint_url is not None:
        if is_exposed(settings.endpoint_url):
            log.warning(
                "insecure_endpoint: calls to %s are plaintext; anyone on the way can read tokens and replace keys",
                settings.endpoint_url,
            )
        return settings.endpoint_url
    try:
        session.get_partition_for_region(settings.region)
    except botocore.exceptions.UnknownRegionError:
        raise ConfigurationError(["region: the AWS SDK does not know this region; set endpoint_url"]) from None
    # Only a client of the SDK shows the endpoint. This one makes no calls, so it can have any credentials.
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
