"""Settings of a `pkcs11` provider."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal
from urllib.parse import quote

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from sealwright.provider import FilePath, ProviderSettings

_LABEL_BYTES: Final = 32
_SERIAL = re.compile(r"[!-~]([ -~]{0,14}[!-~])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _absolute(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError("must be an absolute path")
    return value


def _printable(value: str) -> str:
    if not value.isprintable() or value != value.strip():
        raise ValueError("must be printable, and not begin or end with a space")
    return value


class Pkcs11Settings(ProviderSettings):
    """One token of a PKCS#11 module.

    Attributes:
        module: The module's library, an absolute path.
        token_label: CKA label of the only token whose keys may be used (up to 32 bytes of UTF-8).
        token_serial: Serial number of that token (up to 16 characters). Give exactly one of token_label and token_serial.
        pin_file: File that holds the user PIN, optionally with a line end, and nothing else. AWS CloudHSM: `user:password`.
        pin_env: Environment variable that holds the PIN. Give exactly one of pin_file and pin_env. The PIN is read once, at start.
        sessions: Sessions with the token, and so the concurrent calls, per worker. Some tokens allow only a few (YubiHSM 2: 16
            for all processes together).
        initialize_arguments: Passed to C_Initialize as pReserved, for modules that need it (NSS softokn, YubiHSM 2).
    """

    kind: Literal["pkcs11"] = "pkcs11"
    module: Annotated[FilePath, AfterValidator(_absolute)]
    token_label: Annotated[str, AfterValidator(_printable)] | None = None
    token_serial: str | None = None
    pin_file: Annotated[FilePath, AfterValidator(_absolute)] | None = None
    pin_env: str | None = None
    sessions: int = Field(default=8, ge=1, le=64)
    initialize_arguments: str | None = None

    def owns(self, uri: str) -> bool:
        """See `ProviderSettings.owns`: the canonical URI has the attribute of the token that is configured."""
        token = ("token", self.token_label) if self.token_label is not None else ("serial", self.token_serial or "")
        return f"{token[0]}={quote(token[1], safe='')}" in uri.removeprefix("pkcs11:").split(";")

    @field_validator("token_label")
    @classmethod
    def _label(cls, value: str | None) -> str | None:
        if value is not None and not 0 < len(value.encode()) <= _LABEL_BYTES:
            raise ValueError(f"must have 1 to {_LABEL_BYTES} bytes")
        return value

    @field_validator("token_serial")
    @classmethod
    def _one_token(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and not _SERIAL.fullmatch(value):
            raise ValueError("must be 1 to 16 ASCII characters, and not begin or end with a space")
        if "token_label" in info.data and (value is None) == (info.data["token_label"] is None):
            raise ValueError("give either token_label or token_serial")
        return value

    @field_validator("pin_env")
    @classmethod
    def _one_pin(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and not _VARIABLE.fullmatch(value):
            raise ValueError("must be the name of an environment variable")
        if "pin_file" in info.data and (value is None) == (info.data["pin_file"] is None):
            raise ValueError("give either pin_file or pin_env")
        return value

    @field_validator("initialize_arguments")
    @classmethod
    def _text(cls, value: str | None) -> str | None:
        if value is not None and (not value or "\0" in value):
            raise ValueError("must not be empty or contain NUL")
        return value
