"""Key URIs of PKCS#11 (RFC 7512): `pkcs11:token=…;id=%…;type=private`, or `serial=…` in place of `token=…`.

A key is pinned by its CKA_ID, sixteen random bytes set at its generation, and the core verifies every signature with the published
public key. `token` or `serial` limits which keys the provider may use, so a URI has the attribute that the configuration has. A
serial number does not pin a key better: the other members of a cluster, and the replacement of a broken HSM, hold the same keys
under the same CKA_ID but have other serial numbers, so every published key would be lost. To allow only one device, configure
`token_serial`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from sealwright.provider import ProviderUnsupportedError
from sealwright_providers.pkcs11.settings import Pkcs11Settings

SCHEME: Final = "pkcs11:"
_MAX_ID_BYTES: Final = 255
# RFC 7512 §2.3: pk11-pchar of a path.
_ATTRIBUTE = re.compile(r"([a-z-]+)=((?:[A-Za-z0-9._~:\[\]@!$'()*+,=&-]|%[0-9A-Fa-f]{2})+)")
_SECRET_BY_TYPE: Final = {"private": False, "secret-key": True}


@dataclass(frozen=True, slots=True)
class KeyName:
    """A key of the configured token.

    Attributes:
        key_id: CKA_ID.
        secret: Whether it is a secret key (HS*), not a private one.
    """

    key_id: bytes = field(repr=False)
    secret: bool = False


class KeyUris:
    """Reads and writes the key URIs of one token."""

    def __init__(self, settings: Pkcs11Settings) -> None:
        label, serial = settings.token_label, settings.token_serial
        self._attribute, self._value = ("token", label) if label is not None else ("serial", serial or "")

    def format(self, name: KeyName) -> str:
        """Return the canonical URI of a key, in which every byte of the `id` is percent-encoded (RFC 7512 §2.4)."""
        kind = "secret-key" if name.secret else "private"
        key_id = "".join(f"%{byte:02X}" for byte in name.key_id)
        return f"{SCHEME}{self._attribute}={quote(self._value, safe='')};id={key_id};type={kind}"

    def parse(self, uri: str) -> KeyName:
        """Parse a URI, in canonical form or not.

        Raises:
            ProviderUnsupportedError: It is malformed, has other attributes than these three, or names another token.
        """
        if not uri.startswith(SCHEME):
            raise ProviderUnsupportedError("the key URI must start with pkcs11:")
        values: dict[str, bytes] = {}
        for part in uri.removeprefix(SCHEME).split(";"):
            match = _ATTRIBUTE.fullmatch(part)
            if match is None or match[1] in values:
                raise ProviderUnsupportedError("the key URI is malformed; see RFC 7512")
            values[match[1]] = unquote_to_bytes(match[2])
        if values.keys() != {self._attribute, "id", "type"}:
            raise ProviderUnsupportedError(
                f"the key URI must have the attributes {self._attribute}, id and type, and no others"
            )
        if values[self._attribute] != self._value.encode():
            raise ProviderUnsupportedError("the key URI names another token than the provider's")
        secret = _SECRET_BY_TYPE.get(values["type"].decode(errors="replace"))
        if secret is None or len(values["id"]) > _MAX_ID_BYTES:
            raise ProviderUnsupportedError(
                f"the key URI must have the type private or secret-key, and an id of at most {_MAX_ID_BYTES} bytes"
            )
        return KeyName(values["id"], secret)
