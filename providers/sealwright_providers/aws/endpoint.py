"""Where AWS KMS of a region is."""

from __future__ import annotations

import botocore.session

from sealwright.errors import ConfigurationError
from sealwright_providers.aws.settings import AwsSettings


def endpoint_of(session: botocore.session.Session, settings: AwsSettings) -> str:
    """Return the configured endpoint, or the region's own as the SDK knows it; never one of the environment. Reads files.

    Raises:
        ConfigurationError: The SDK knows no such region.
    """
    if settings.endpoint_url is not None:
        return settings.endpoint_url
    resolved = session.get_component("endpoint_resolver").construct_endpoint("kms", settings.region)
    if not resolved:
        raise ConfigurationError(["the AWS SDK knows no endpoint of that region; set endpoint_url"])
    return f"https://{resolved['hostname']}"
