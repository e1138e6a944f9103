"""Settings of an `aws` provider."""

from __future__ import annotations

import ipaddress
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator

from sealwright.provider import ProviderSettings


class AwsSettings(ProviderSettings):
    """One account and region of AWS KMS. Credentials come from the AWS default chain.

    Attributes:
        region: The only region whose keys may be used.
        account: The only account whose keys may be used; absent: any account that the credentials reach.
        endpoint_url: For emulators and VPC endpoints; absent: the region's own. The SDK's environment variables have no effect.
        insecure_endpoint: Whether `endpoint_url` may be plaintext to another machine. It can then be read and changed on the way.
        message: `digest` sends the digest of RSA and ECDSA messages of any length. `raw` sends the message, up to 4096 bytes.
        transport: `http` calls KMS from the event loop. `boto3` calls it through the SDK, in threads.
    """

    kind: Literal["aws"] = "aws"
    region: str = Field(pattern=r"^[a-z]{2,8}(-[a-z]+)+-[0-9]{1,2}$")
    account: str | None = Field(default=None, pattern=r"^[0-9]{12}$")
    endpoint_url: str | None = None
    insecure_endpoint: bool = False
    message: Literal["digest", "raw"] = "digest"
    transport: Literal["http", "boto3"] = "http"

    @field_validator("endpoint_url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        # Compare with the parts that are allowed, so that nothing else (a user, a query) can be in it.
        plain = f"{parts.scheme}://{parts.netloc}"
        if parts.scheme not in {"http", "https"} or not parts.hostname or value not in {plain, plain + "/"}:
            raise ValueError("must be http(s)://host[:port]")
        if "@" in parts.netloc or parts.port == 0:
            raise ValueError("must be http(s)://host[:port]")
        return plain

    @field_validator("insecure_endpoint")
    @classmethod
    def _plaintext_is_meant(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic's signature
        if not value and is_exposed(info.data.get("endpoint_url")):
            raise ValueError("must be true, because endpoint_url is plaintext and not on loopback (or use https)")
        return value


def is_emulator(endpoint_url: str | None) -> bool:
    """Return whether an endpoint is plaintext, which AWS itself never is."""
    return urlsplit(endpoint_url or "").scheme == "http"


def is_exposed(endpoint_url: str | None) -> bool:
    """Return whether calls to an endpoint leave this machine in plaintext."""
    parts = urlsplit(endpoint_url or "")
    if parts.scheme != "http":
        return False
    host = parts.hostname or ""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"
