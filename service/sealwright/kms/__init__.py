"""The port to any KMS or HSM."""
