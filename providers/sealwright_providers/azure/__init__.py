"""Azure Key Vault and Azure Managed HSM.

Permissions, by call. Key Vault: data actions of Azure RBAC under `Microsoft.KeyVault/vaults/`, or the permission of an access
policy. Managed HSM: data actions of its local RBAC under `Microsoft.KeyVault/managedHsm/`.

| used for | Key Vault, RBAC | access policy | Managed HSM |
|---|---|---|---|
| every token | keys/sign/action | sign | keys/sign/action |
| after a key is created or found | keys/read | get | keys/read/action |
| creating keys, finding the key of an intent | keys/create/action, keys/read | create, get, list | keys/create, keys/read/action |
| revoking a key, and keys at the end of their life | keys/update/action | update | keys/write/action |
| `destroy_after`, surplus keys | keys/delete, keys/read | delete, get, list | keys/delete, keys/deletedKeys/read/action |
"""

from sealwright_providers.azure.factory import FACTORY

__all__ = ["FACTORY"]
