"""Any PKCS#11 module: HSMs, and software tokens. PKCS#11 v2.40, and v3.0 for EdDSA.

What the token's user must be able to do:

| call | used for |
|---|---|
| C_Login | once a process |
| C_FindObjects, C_GetAttributeValue | finding a key by CKA_ID and class; reading its public half |
| C_Sign | every token |
| C_GenerateKeyPair, C_GenerateKey | creating keys |
| C_SetAttributeValue of CKA_SIGN | revoking a key, and keys at the end of their life, where the token lets it be changed |
| C_DestroyObject | a surplus key that was never published; `destroy_after` |
"""

from sealwright_providers.pkcs11.factory import FACTORY

__all__ = ["FACTORY"]
