"""AsymmetricSign, MacSign and MacVerify."""

from __future__ import annotations

import hmac
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from google.cloud.kms_v1.types import service

from sealwright_testing.emulators.gcp.errors import invalid, precondition
from sealwright_testing.emulators.gcp.faults import FaultKind
from sealwright_testing.emulators.gcp.names import checked
from sealwright_testing.emulators.gcp.specs import MAC, SIGN
from sealwright_testing.emulators.gcp.store import Version

from .call import Call, check_crc, require_enabled

_MAX_DATA: Final = 65536
_Signature: Final[Any] = service.AsymmetricSignResponse.pb()
_Mac: Final[Any] = service.MacSignResponse.pb()
_MacVerified: Final[Any] = service.MacVerifyResponse.pb()


def asymmetric_sign(call: Call) -> Any:
    """AsymmetricSign: takes a digest of the right hash, or data, but not both."""
    version = _usable(call, SIGN)
    request = call.request
    value, digest_checked, data_checked = _to_sign(version, request)
    signature = _tampered(call, version.spec.sign(call.material_of(version), value))
    verified = not call.has(FaultKind.UNVERIFIED)
    return _Signature(
        name=call.name_for(version.name),
        signature=signature,
        signature_crc32c=call.crc_of(signature),
        verified_digest_crc32c=digest_checked and verified,
        verified_data_crc32c=data_checked and verified,
        protection_level=version.protection,
    )


def mac_sign(call: Call) -> Any:
    """MacSign."""
    version = _usable(call, MAC)
    data = _data(call.request)
    data_checked = check_crc(call.request, "data_crc32c", data)
    mac = _tampered(call, version.spec.sign(call.material_of(version), data))
    return _Mac(
        name=call.name_for(version.name),
        mac=mac,
        mac_crc32c=call.crc_of(mac),
        verified_data_crc32c=data_checked and not call.has(FaultKind.UNVERIFIED),
        protection_level=version.protection,
    )


def mac_verify(call: Call) -> Any:
    """MacVerify."""
    version = _usable(call, MAC)
    data = _data(call.request)
    data_checked = check_crc(call.request, "data_crc32c", data)
    mac_checked = check_crc(call.request, "mac_crc32c", call.request.mac)
    success = hmac.compare_digest(version.spec.sign(version.material, data), call.request.mac)
    return _MacVerified(
        name=version.name,
        success=success,
        verified_data_crc32c=data_checked,
        verified_mac_crc32c=mac_checked,
        verified_success_integrity=success,
        protection_level=version.protection,
    )


def _usable(call: Call, purpose: str) -> Version:
    """Return the version of a request: enabled, and with the right purpose."""
    version = call.store.version(checked("crypto key version", call.request.name))
    require_enabled(version, call.store.clock.now())
    if version.spec.purpose != purpose:
        raise precondition(f"Keys with algorithm {version.algorithm} may not be used for this operation.")
    return version


def _to_sign(version: Version, request: Any) -> tuple[bytes, bool, bool]:
    """Return what is signed, and whether the checksums of the digest and of the data were checked."""
    kind = request.digest.WhichOneof("digest") if request.HasField("digest") else None
    if kind is not None and request.data:
        raise invalid("Only one of digest or data may be set.")
    if request.HasField("digest_crc32c") and request.HasField("data_crc32c"):
        raise invalid("Only one of digest_crc32c or data_crc32c may be set.")
    wanted = version.spec.hash
    if kind is None:
        data = _data(request)
        data_checked = check_crc(request, "data_crc32c", data)
        if wanted is None:
            return data, False, data_checked
        state = hashes.Hash(wanted)
        state.update(data)
        return state.finalize(), False, data_checked
    digest: bytes = getattr(request.digest, kind)
    if wanted is None or kind != wanted.name or len(digest) != wanted.digest_size:
        raise invalid(f"A digest of {len(digest)} bytes in {kind} does not fit the algorithm {version.algorithm}.")
    return digest, check_crc(request, "digest_crc32c", digest), False


def _data(request: Any) -> bytes:
    if not request.data:
        raise invalid("The field data is required.")
    if len(request.data) > _MAX_DATA:
        raise invalid(f"The data has {len(request.data)} bytes; the limit is {_MAX_DATA}.")
    return bytes(request.data)


def _tampered(call: Call, signature: bytes) -> bytes:
    if call.has(FaultKind.CORRUPTED_SIGNATURE):
        return signature[:-1] + bytes([signature[-1] ^ 1])
    if call.has(FaultKind.TRUNCATED_SIGNATURE):
        return signature[:-1]
    return signature
