"""Settings of an `azure` provider."""

from __future__ import annotations

import ipaddress
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator

from sealwright.provider import FilePath, ProviderSettings

CredentialKind = Literal[
    "default", "managed_identity", "workload_identity", "client_secret", "client_certificate", "cli"
]

_AUTHORITIES: Final = {
    ".azure.cn": "https://login.chinacloudapi.cn",
    ".usgovcloudapi.net": "https://login.microsoftonline.us",
}
"""Microsoft Entra ID of the sovereign clouds, by the suffix of the vault's host (azure-identity, AzureAuthorityHosts)."""
_PUBLIC_AUTHORITY: Final = "https://login.microsoftonline.com"
_ID: Final = r"^[0-9A-Za-z.-]{1,100}$"


class AzureSettings(ProviderSettings):
    """One Key Vault or Managed HSM, and the identity that the service has there.

    Attributes:
        vault_url: `https://NAME.vault.azure.net`, `https://NAME.managedhsm.azure.net`, or their names in a sovereign cloud.
        managed_hsm: Whether it is a Managed HSM; absent: by its name. Needed for an emulator under `localhost` only.
        credential: Where the service's identity comes from. `default`: environment variables, workload identity, managed identity
            or Azure CLI, the first of these that is set up.
        tenant_id: Tenant of the identity. Needed for `client_secret` and `client_certificate`.
        client_id: Application or user-assigned managed identity. Needed for `client_secret` and `client_certificate`.
        client_secret_file: File with the application's secret, for `client_secret`.
        client_certificate_file: PEM file with the application's certificate and private key, for `client_certificate`.
        authority: URL of Microsoft Entra ID; absent: the one of the cloud to which the vault's name belongs.
        ca_file: PEM file with certificates to trust beside those of the system, for emulators and private CAs.
        verify_challenge_resource: Whether the vault must ask for a token of its own domain. False is allowed on loopback only.
        api_version: Version of the Key Vault REST API, for clouds that lag behind.
    """

    kind: Literal["azure"] = "azure"
    max_creations_per_minute: int = Field(default=60, ge=2, le=100_000)  # a quota of the cloud; see ProviderSettings
    vault_url: str
    managed_hsm: bool | None = None
    credential: CredentialKind = "default"
    tenant_id: str | None = Field(default=None, pattern=_ID)
    client_id: str | None = Field(default=None, pattern=_ID)
    client_secret_file: FilePath | None = None
    client_certificate_file: FilePath | None = None
    authority: str | None = None
    ca_file: FilePath | None = None
    api_version: str = Field(default="2025-07-01", pattern=r"^(7\.[0-9]{1,2}|20[0-9]{2}-[0-9]{2}-[0-9]{2})$")
    verify_challenge_resource: bool = True

    @property
    def host(self) -> str:
        """The vault's host, with its port if the URL has one: what key URIs begin with."""
        return urlsplit(self.vault_url).netloc

    @property
    def is_managed_hsm(self) -> bool:
        """Whether the vault is a Managed HSM."""
        return ".managedhsm." in self.host if self.managed_hsm is None else self.managed_hsm

    @property
    def authority_url(self) -> str:
        """The URL of Microsoft Entra ID: the configured one, or that of the vault's cloud; never one from the environment."""
        if self.authority is not None:
            return self.authority
        name = urlsplit(self.vault_url).hostname or ""
        return next((url for suffix, url in _AUTHORITIES.items() if name.endswith(suffix)), _PUBLIC_AUTHORITY)

    def owns(self, uri: str) -> bool:
        """See `ProviderSettings.owns`: the URI begins with the vault's host."""
        return uri.lower().startswith(f"azurekms://{self.host.lower()}/")

    @field_validator("vault_url", "authority")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        # Compare with the parts that are allowed, so that nothing else (a user, a query) can be in it.
        plain = f"https://{parts.netloc}"
        if not parts.hostname or value not in {plain, plain + "/"} or "@" in parts.netloc or parts.port == 0:
            raise ValueError("must be https://host[:port]")
        return plain.lower()

    @field_validator("client_certificate_file")
    @classmethod
    def _complete(cls, value: str | None, info: ValidationInfo) -> str | None:
        """Check the fields that `credential` needs: this is the last of them."""
        kind, known = info.data.get("credential"), {**info.data, "client_certificate_file": value}
        needed = {
            "client_secret": ("tenant_id", "client_id", "client_secret_file"),
            "client_certificate": ("tenant_id", "client_id", "client_certificate_file"),
        }.get(str(kind), ())
        missing = [name for name in needed if name in known and known[name] is None]
        if missing:
            raise ValueError(f"credential {kind!r} needs {', '.join(missing)}")
        for name, wanted in (
            ("client_secret_file", "client_secret"),
            ("client_certificate_file", "client_certificate"),
        ):
            if known.get(name) is not None and kind is not None and kind != wanted:
                raise ValueError(f"{name} is for credential {wanted!r}, not {kind!r}")
        return value

    @field_validator("verify_challenge_resource")
    @classmethod
    def _verified(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic passes it by position
        url = info.data.get("vault_url")
        if not value and url is not None and not is_loopback(urlsplit(url).hostname or ""):
            raise ValueError("may be false only for a vault on the loopback interface")
        return value


def is_loopback(host: str) -> bool:
    """Tell whether a host is on the loopback interface: `localhost`, a name under it (RFC 6761 §6.3) or a loopback address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
