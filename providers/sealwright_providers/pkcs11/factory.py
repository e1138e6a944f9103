"""Opens a `pkcs11` provider."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from sealwright.provider import ConfigurationError, KeyProvider, ProviderNotInstalledError
from sealwright_providers.pkcs11.settings import Pkcs11Settings

_LONGEST_PIN: Final = 4096


class Pkcs11Factory:
    """Factory of `pkcs11` providers. Importing it does not import the SDK."""

    kind = "pkcs11"
    settings = Pkcs11Settings

    async def open(self, settings: Pkcs11Settings) -> KeyProvider:
        """Read the PIN and load the module. The first call initialises it, so that the service starts while the HSM is down.

        Raises:
            ProviderNotInstalledError: python-pkcs11 is not installed.
            ConfigurationError: The module cannot be loaded, or the PIN cannot be read.
        """
        try:
            import pkcs11  # noqa: F401, PLC0415
        except ImportError as e:
            raise ProviderNotInstalledError(["kind pkcs11 needs python-pkcs11: install sealwright[pkcs11]"]) from e
        from sealwright_providers.pkcs11.provider import Pkcs11Provider  # noqa: PLC0415

        return await Pkcs11Provider.open(settings, read_pin(settings))


def read_pin(settings: Pkcs11Settings) -> bytes:
    """Return the user PIN.

    Raises:
        ConfigurationError: It cannot be read, or is empty.
    """
    if settings.pin_env is not None:
        pin = os.environb.get(settings.pin_env.encode(), b"")
        if not pin:
            raise ConfigurationError(["pin_env: this environment variable is not set, or is empty"])
        return pin
    try:
        with Path(settings.pin_file or "").open("rb") as file:
            content = file.read(_LONGEST_PIN + 1)
    except OSError as e:
        raise ConfigurationError([f"pin_file: cannot be read ({type(e).__name__})"]) from None
    pin = content.removesuffix(b"\n").removesuffix(b"\r")
    if not pin or len(content) > _LONGEST_PIN:
        raise ConfigurationError([f"pin_file: must hold a PIN and nothing else, in at most {_LONGEST_PIN} bytes"])
    return pin


FACTORY: Final = Pkcs11Factory()
