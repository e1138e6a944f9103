"""Settings of an `aws` provider."""

from __future__ import annotations

import ipaddress
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator

from sealwright.provider import FilePath, ProviderSettings


class AwsSettings(ProviderSettings):
    """One account and region of AWS KMS. Credentials come from the AWS default chain.

    Attributes:
        region: The only region whose keys may be used.
        account: The only account whose keys may be used; absent: any account that the credentials reach.
        endpoint_url: For emulators and VPC endpoints; absent: the region's own. The SDK's environment variables have no effect.
        sts_endpoint_url: The same for AWS STS; absent: the region's own, or `endpoint_url` if that is an emulator.
        proxy: URL of a proxy for all calls (RFC 9110 §9.3.6); absent: none. Variables such as HTTPS_PROXY have no effect.
        ca_file: PEM file with the certificates to trust, in place of those of the system.
        insecure_endpoint: Whether endpoints may be plaintext to another machine. Calls can then be read and changed on the way.
        message: `digest` sends the digest of RSA and ECDSA messages of any length. `raw` sends the message, up to 4096 bytes.
        transport: `http` calls KMS from the event loop. `boto3` calls it through the SDK, in threads.
    """

    kind: Literal["aws"] = "aws"
    region: str = Field(pattern=r"^[a-z]{2,8}(-[a-z]+)+-[0-9]{1,2}$")
    account: str | None = Field(default=None, pattern=r"^[0-9]{12}$")
    endpoint_url: str | None = None
    sts_endpoint_url: str | None = None
    proxy: str | None = None
    ca_file: FilePath | None = None
    insecure_endpoint: bool = False
    message: Literal["digest", "raw"] = "digest"
    transport: Literal["http", "boto3"] = "http"

    @field_validator("endpoint_url", "sts_endpoint_url", "proxy")
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

    @field_validator("proxy")
    @classmethod
    def _proxy(cls, value: str | None) -> str | None:
        # TLS to the KMS goes through the proxy, so the way to the proxy needs none.
        if value is not None and (not value.startswith("http://") or urlsplit(value).port is None):
            raise ValueError("must be http://host:port")
        return value

    @field_validator("insecure_endpoint")
    @classmethod
    def _plaintext_is_meant(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic's signature
        for name in ("endpoint_url", "sts_endpoint_url"):
            if not value and is_exposed(info.data.get(name)):
                raise ValueError(f"must be true, because {name} is plaintext and not on loopback (or use https)")
        return value

    @property
    def sts_url(self) -> str | None:
        """The endpoint of AWS STS; None: the region's own."""
        if self.sts_endpoint_url is None and is_emulator(self.endpoint_url):
            return self.endpoint_url
        return self.sts_endpoint_url

    @property
    def proxy_address(self) -> tuple[str, int] | None:
        """Host and port of the proxy."""
        parts = urlsplit(self.proxy or "")
        return (parts.hostname, parts.port) if parts.hostname and parts.port else None

    def owns(self, uri: str) -> bool:
        """See `ProviderSettings.owns`: the ARN has the region and the account."""
        region, account = (*uri.split(":"), *("",) * 6)[4:6]
        return uri.startswith("awskms:") and region == self.region and self.account in {None, account}


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
