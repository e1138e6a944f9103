"""Operations that read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.cloud.kms_v1.types import resources, service

from sealwright_testing.emulators.gcp.errors import invalid, precondition
from sealwright_testing.emulators.gcp.names import checked
from sealwright_testing.emulators.gcp.specs import SIGN
from sealwright_testing.emulators.gcp.store import Key

from .call import Call, require_enabled

T = TypeVar("T")

_MAX_PAGE: Final = 1000
_DEFAULT_PAGE: Final = 100
_PublicKey: Final[Any] = resources.PublicKey.pb()
_Format: Final = resources.PublicKey.PublicKeyFormat


def get_key_ring(call: Call) -> Any:
    """GetKeyRing."""
    return call.store.ring(checked("key ring", call.request.name))


def list_key_rings(call: Call) -> Any:
    """ListKeyRings."""
    parent = checked("location", call.request.parent)
    names = sorted(n for n in call.store.rings if n.startswith(f"{parent}/keyRings/"))
    page, token = _page(names, call.request)
    rings = [call.store.ring(n) for n in page]
    return service.ListKeyRingsResponse.pb()(key_rings=rings, next_page_token=token, total_size=len(names))


def get_crypto_key(call: Call) -> Any:
    """GetCryptoKey."""
    return call.store.key(checked("crypto key", call.request.name)).message()


def list_crypto_keys(call: Call) -> Any:
    """ListCryptoKeys, with filters of the form `labels.name=value`, joined by AND."""
    keys = _filtered(call.store.keys_of(checked("key ring", call.request.parent)), call.request.filter)
    page, token = _page(keys, call.request)
    found = [k.message() for k in page]
    return service.ListCryptoKeysResponse.pb()(crypto_keys=found, next_page_token=token, total_size=len(keys))


def get_version(call: Call) -> Any:
    """GetCryptoKeyVersion."""
    version = call.store.version(checked("crypto key version", call.request.name))
    message = version.message(call.store.clock.now())
    message.name = call.name_for(message.name)
    return message


def list_versions(call: Call) -> Any:
    """ListCryptoKeyVersions."""
    if call.request.filter:
        raise invalid("The emulator has no filters for versions.")
    versions = list(call.store.key(checked("crypto key", call.request.parent)).versions.values())
    page, token = _page(versions, call.request)
    found = [v.message(call.store.clock.now()) for v in page]
    return service.ListCryptoKeyVersionsResponse.pb()(
        crypto_key_versions=found, next_page_token=token, total_size=len(versions)
    )


def get_public_key(call: Call) -> Any:
    """GetPublicKey: `pem` where no format is asked for, else `public_key`."""
    version = call.store.version(checked("crypto key version", call.request.name))
    require_enabled(version, call.store.clock.now())
    if version.spec.purpose != SIGN:
        raise precondition(f"Keys with algorithm {version.algorithm} do not contain a public key.")
    public = call.material_of(version).public_key()
    answer = _PublicKey(
        name=call.name_for(version.name), algorithm=version.algorithm, protection_level=version.protection
    )
    asked = call.request.public_key_format
    if not asked:
        if version.spec.post_quantum:
            raise invalid("A public_key_format is required for keys with post-quantum algorithms.")
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        answer.pem = pem.decode()
        answer.MergeFrom(_PublicKey(pem_crc32c=call.crc_of(pem)))
        return answer
    raw = _formatted(public, asked, post_quantum=version.spec.post_quantum)
    answer.public_key_format = asked
    answer.MergeFrom(_PublicKey(public_key={"data": raw, "crc32c_checksum": call.crc_of(raw)}))
    return answer


def _formatted(public: Any, asked: int, *, post_quantum: bool) -> bytes:
    if asked == _Format.NIST_PQC and post_quantum:
        return bytes(public.public_bytes(Encoding.Raw, PublicFormat.Raw))
    if asked in {_Format.PEM, _Format.DER} and not post_quantum:
        encoding = Encoding.PEM if asked == _Format.PEM else Encoding.DER
        return bytes(public.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo))
    raise invalid("The public_key_format does not fit the algorithm of the key.")


def _page(items: Sequence[T], request: Any) -> tuple[Sequence[T], str]:
    """Return the items of a page, and the token of the next one."""
    size = min(request.page_size or _DEFAULT_PAGE, _MAX_PAGE)
    if size < 0 or not (request.page_token or "0").isdecimal():
        raise invalid("The page size or page token is not valid.")
    start = int(request.page_token or "0")
    end = start + size
    return items[start:end], str(end) if end < len(items) else ""


def _filtered(keys: list[Key], text: str) -> list[Key]:
    for term in filter(None, text.split(" AND ")):
        path, _, value = term.partition("=")
        if not path.startswith("labels.") or not value:
            raise invalid("The emulator has no such filter.")
        name = path.removeprefix("labels.")
        keys = [k for k in keys if k.labels.get(name) == value]
    return keys
