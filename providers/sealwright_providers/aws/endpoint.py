"""The endpoint of AWS KMS in a region."""

from __future__ import annotations

import logging
import ssl
from typing import Any

import botocore.exceptions
import botocore.session
from botocore.config import Config

from sealwright.provider import ConfigurationError
from sealwright_providers.aws.settings import AwsSettings, is_exposed
from sealwright_providers.dial import tls_context

log = logging.getLogger(__name__)


def client_config(settings: AwsSettings, **more: Any) -> Config:
    """Return the configuration of an SDK client that takes no endpoint or proxy from the environment."""
    return Config(
        proxies={"http": settings.proxy, "https": settings.proxy} if settings.proxy else {},
        use_fips_endpoint=False,
        use_dualstack_endpoint=False,
        ignore_configured_endpoint_urls=True,  # type: ignore[call-arg] # missing in botocore-stubs
        **more,
    )


class Session(botocore.session.Session):
    """A session of the SDK that knows one rule for all clients, also those that its credential chain makes (STS, SSO).

    Region, endpoints, proxy and trusted certificates come from the settings of the provider, never from the environment.
    """

    def __init__(self, settings: AwsSettings) -> None:
        """Prepare. Reads files.

        Raises:
            ConfigurationError: `ca_file` cannot be used.
        """
        super().__init__()
        tls_context(settings.ca_file)
        self._settings = settings
        self._trusted = settings.ca_file or ssl.get_default_verify_paths().cafile or True
        self.set_config_variable("region", settings.region)
        self.set_default_client_config(client_config(settings))

    def create_client(self, service_name: str, *args: Any, **options: Any) -> Any:
        """Make a client. See botocore."""
        if options.get("verify") is None:
            options["verify"] = self._trusted
        if service_name == "sts" and options.get("endpoint_url") is None:
            options["endpoint_url"] = self._settings.sts_url
        return super().create_client(service_name, *args, **options)


def endpoint_of(session: botocore.session.Session, settings: AwsSettings) -> str:
    """Return the configured endpoint, or the region's own from the SDK's data; never one from the environment. Reads files.

    Raises:
        ConfigurationError: The SDK does not know the region.
    """
    for url in (settings.endpoint_url, settings.sts_endpoint_url):
        if is_exposed(url):
            log.warning(
                "insecure_endpoint: calls to %s are plaintext; anyone on the way can read tokens and replace keys", url
            )
    if settings.endpoint_url is not None:
        return settings.endpoint_url
    try:
        session.get_partition_for_region(settings.region)
    except botocore.exceptions.UnknownRegionError:
        raise ConfigurationError(["region: the AWS SDK does not know this region; set endpoint_url"]) from None
    # Only a client of the SDK shows the endpoint. This one makes no calls, so it can have any credentials.
    client = session.create_client(
        "kms",
        region_name=settings.region,
        config=client_config(settings),
        aws_access_key_id="none",
        aws_secret_access_key="none",  # noqa: S106
    )
    try:
        return str(client.meta.endpoint_url)
    finally:
        client.close()
