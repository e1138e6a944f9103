"""AWS KMS.

Permissions, by call (AWS KMS Developer Guide, "Permissions reference"):

| permission | used for |
|---|---|
| kms:Sign | every token, except HS* |
| kms:GenerateMac | every token of HS* |
| kms:GetPublicKey, kms:DescribeKey | after a key is created or registered; GetPublicKey: the first long message of ML-DSA |
| kms:CreateKey, kms:TagResource | creating keys |
| kms:ListKeys, kms:ListResourceTags | finding the key of an intent again after a crash |
| kms:DisableKey | revoking a key, and keys at the end of their life |
| kms:ScheduleKeyDeletion | a surplus key that was never published; `destroy_after` |
"""

from sealwright_providers.aws.factory import FACTORY

__all__ = ["FACTORY"]
