"""Opens a `pkcs11` provider."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, Final

from pydantic import BaseModel

from sealwright.errors import ConfigurationError, ProviderNotInstalledError
from sealwright.kms.provider import KeyProvider
from sealwright_providers.pkcs11.settings import Pkcs11Settings

_LONGEST_PIN: Final = 4096


class Pkcs11Factory:
    """Factory of `pkcs11` providers; importing it imports no SDK."""

    kind: ClassVar[str] = "pkcs11"
    scheme: ClassVar[str] = "pkcs11"
    settings: ClassVar[type[BaseModel]] = Pkcs11Settings

    async def open(self, settings: BaseModel) -> KeyProvider:
        """Read the PIN and load the module. It is initialised by the first call: an HSM that is down keeps nobody from starting.

        Raises:
            ProviderNotInstalledError: python-pkcs11 is not installed.
            ConfigurationError: The module cannot be loaded, or the PIN cannot be read.
        """
        if not isinstance(settings, Pkcs11Settings):
            raise TypeError("not the settings of a pkcs11 provider")
        try:
            import pkcs11  # noqa: F401, PLC0415
        except ImportError as e:
            raise ProviderNotInstalledError(["kind pkcs11 needs python-pkcs11: install sealwright[pkcs11]"]) from e
        from sealwright_providers.pkcs11.provider import Pkcs11Provider  # noqa: PLC0415

        return await Pkcs11Provider.open(settings, read_pin(settings))


def read_pin(settings: Pkcs11Settings) -> bytes:
    """Return the user PIN.

    Raises:
        ConfigurationError: There is none.
    """
    if settings.pin_env is not None:
        pin = os.environb.get(settings.pin_env.encode(), b"")
        if not pin:
            raise ConfigurationError(["the environment variable that pin_env names is not set"])
        return pin
    try:
        with Path(settings.pin_file or "").open("rb") as file:
            content = file.read(_LONGEST_PIN + 1)
    except OSError as e:
        raise ConfigurationError([f"the pin_file cannot be read ({type(e).__name__})"]) from None
    pin = content.removesuffix(b"\n").removesuffix(b"\r")
    if not pin or len(content) > _LONGEST_PIN:
        raise ConfigurationError(["the pin_file holds no PIN"])
    return pin


FACTORY: Final = Pkcs11Factory()
