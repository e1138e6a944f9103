"""Google Cloud KMS.

Permissions, by call (Cloud KMS, "Permissions and roles"); `docs/providers/gcp.md` has a role to paste:

| permission | used for |
|---|---|
| cloudkms.cryptoKeyVersions.useToSign | every token; HS* too (MacSign) |
| cloudkms.cryptoKeyVersions.get, cloudkms.cryptoKeyVersions.viewPublicKey | after a key is created or registered |
| cloudkms.cryptoKeys.create, cloudkms.cryptoKeyVersions.create | creating keys |
| cloudkms.cryptoKeys.get, cloudkms.cryptoKeyVersions.list | finding a key again after a crash; a URI without a version |
| cloudkms.cryptoKeyVersions.update | revoking a key, and keys at the end of their life |
| cloudkms.cryptoKeyVersions.destroy | a surplus key that was never published; `destroy_after` |
| cloudkms.keyRings.get | optional: the check that Cloud KMS answers |
"""

from sealwright_providers.gcp.factory import FACTORY

__all__ = ["FACTORY"]
