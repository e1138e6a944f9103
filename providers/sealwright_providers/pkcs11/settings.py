"""Settings of a `pkcs11` provider."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from sealwright.kms.settings import ProviderSettings
from sealwright.settings import FilePath

_LABEL_BYTES: Final = 32
_SERIAL = re.compile(r"[!-~]([ -~]{0,14}[!-~])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _absolute(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError("must be an absolute path")
    return value


def _printable(value: str) -> str:
    if not value.isprintable() or value != value.strip():
        raise ValueError("must be printable, without blanks at its ends")
    return value


class Pkcs11Settings(ProviderSettings):
    """One token of a PKCS#11 module.

    Attributes:
        module: The module's library, an absolute path.
        token_label: The token, by CKA label (up to 32 bytes of UTF-8). The only token whose keys may be used.
        token_serial: The token, by serial number (up to 16 characters); one of these two.
        pin_file: File that holds the user PIN, and nothing else but a line end. AWS CloudHSM: `user:password`.
        pin_env: Name of the environment variable that holds it; one of these two. It is read once, at start.
        sessions: Sessions with the token, and so calls under way at once, per worker. A token may allow only a few (YubiHSM 2: 16
            for everybody).
        initialize_arguments: Passed to C_Initialize as pReserved, for the modules that want it (NSS softokn, YubiHSM 2).
    """

    kind: Literal["pkcs11"] = "pkcs11"
    module: Annotated[FilePath, AfterValidator(_absolute)]
    token_label: Annotated[str, AfterValidator(_printable)] | None = None
    token_serial: str | None = None
    pin_file: Annotated[FilePath, AfterValidator(_absolute)] | None = None
    pin_env: str | None = None
    sessions: int = Field(default=8, ge=1, le=64)
    initialize_arguments: str | None = None

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
            raise ValueError("must be 1 to 16 ASCII characters, without blanks at its ends")
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
            raise ValueError("must be text")
        return value
