"""The operations of KeyManagementService, by name."""

from __future__ import annotations

from typing import Any, Final

from google.cloud.kms_v1.types import service

from . import managing, reading, signing
from .call import Method

_S: Final[Any] = service

OPERATIONS: Final[dict[str, Method]] = {
    "CreateKeyRing": Method(_S.CreateKeyRingRequest.pb(), managing.create_key_ring, "parent", "write"),
    "GetKeyRing": Method(_S.GetKeyRingRequest.pb(), reading.get_key_ring, "name", "read"),
    "ListKeyRings": Method(_S.ListKeyRingsRequest.pb(), reading.list_key_rings, "parent", "read"),
    "CreateCryptoKey": Method(_S.CreateCryptoKeyRequest.pb(), managing.create_crypto_key, "parent", "write"),
    "GetCryptoKey": Method(_S.GetCryptoKeyRequest.pb(), reading.get_crypto_key, "name", "read"),
    "ListCryptoKeys": Method(_S.ListCryptoKeysRequest.pb(), reading.list_crypto_keys, "parent", "read"),
    "UpdateCryptoKey": Method(_S.UpdateCryptoKeyRequest.pb(), managing.update_crypto_key, "crypto_key.name", "write"),
    "CreateCryptoKeyVersion": Method(_S.CreateCryptoKeyVersionRequest.pb(), managing.create_version, "parent", "write"),
    "GetCryptoKeyVersion": Method(_S.GetCryptoKeyVersionRequest.pb(), reading.get_version, "name", "read"),
    "ListCryptoKeyVersions": Method(_S.ListCryptoKeyVersionsRequest.pb(), reading.list_versions, "parent", "read"),
    "UpdateCryptoKeyVersion": Method(
        _S.UpdateCryptoKeyVersionRequest.pb(), managing.update_version, "crypto_key_version.name", "write"
    ),
    "DestroyCryptoKeyVersion": Method(
        _S.DestroyCryptoKeyVersionRequest.pb(), managing.destroy_version, "name", "write"
    ),
    "RestoreCryptoKeyVersion": Method(
        _S.RestoreCryptoKeyVersionRequest.pb(), managing.restore_version, "name", "write"
    ),
    "GetPublicKey": Method(_S.GetPublicKeyRequest.pb(), reading.get_public_key, "name", "crypto"),
    "AsymmetricSign": Method(_S.AsymmetricSignRequest.pb(), signing.asymmetric_sign, "name", "crypto"),
    "MacSign": Method(_S.MacSignRequest.pb(), signing.mac_sign, "name", "crypto"),
    "MacVerify": Method(_S.MacVerifyRequest.pb(), signing.mac_verify, "name", "crypto"),
}
"""What else Cloud KMS has (encryption, decryption, import, EKM) answers UNIMPLEMENTED."""

__all__ = ["OPERATIONS", "Method"]
