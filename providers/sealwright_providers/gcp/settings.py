"""Settings of a `gcp` provider."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from sealwright.provider import FilePath, ProviderSettings

_ENDPOINT = re.compile(
    r"(?P<host>[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]):(?P<port>[1-9][0-9]{0,4})"
)
_MAX_PORT = 65535


class GcpSettings(ProviderSettings):
    """One key ring of Google Cloud KMS.

    Attributes:
        project: ID of the project that has the key ring.
        location: Location of the key ring, such as `europe-west1`, `eur4` or `global`.
        key_ring: The only key ring whose keys may be used. It must exist.
        credentials_file: Key of a service account, or configuration of workload identity federation, as JSON; absent: the
            Application Default Credentials.
        endpoint: `host:port`, for Private Service Connect, regional endpoints and emulators. Environment variables have no effect.
        ca_file: PEM file of the certificate authorities to trust; absent: those of the system.
        insecure_endpoint: Whether to speak plaintext, without credentials. Permitted on loopback only, for emulators.
    """

    kind: Literal["gcp"] = "gcp"
    max_creations_per_minute: int = Field(default=60, ge=2, le=100_000)  # a quota of the cloud; see ProviderSettings
    project: str = Field(pattern=r"^([a-z0-9.-]{1,60}:)?[a-z]([a-z0-9-]{0,61}[a-z0-9])?$")
    location: str = Field(pattern=r"^[a-z][a-z0-9-]{1,62}$")
    key_ring: str = Field(pattern=r"^[A-Za-z0-9_-]{1,63}$")
    credentials_file: FilePath | None = None
    endpoint: str = "cloudkms.googleapis.com:443"
    ca_file: FilePath | None = None
    insecure_endpoint: bool = False

    @field_validator("endpoint")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        match = _ENDPOINT.fullmatch(value)
        if match is None or int(match["port"]) > _MAX_PORT:
            raise ValueError("must be host:port")
        return value

    @field_validator("insecure_endpoint")
    @classmethod
    def _loopback(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic's signature
        if not value:
            return value
        # An endpoint that is wrong itself is missing here.
        if "endpoint" in info.data and not _is_loopback(info.data["endpoint"]):
            raise ValueError("is permitted only where endpoint is a loopback address, such as 127.0.0.1:9000")
        if info.data.get("credentials_file") is not None or info.data.get("ca_file") is not None:
            raise ValueError("excludes credentials_file and ca_file: credentials are never sent in plaintext")
        return value

    def owns(self, uri: str) -> bool:
        """See `ProviderSettings.owns`: the resource name has the key ring."""
        ring = f"projects/{self.project}/locations/{self.location}/keyRings/{self.key_ring}"
        return uri.startswith(f"gcpkms://{ring}/")


def _is_loopback(endpoint: str) -> bool:
    host = endpoint.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
