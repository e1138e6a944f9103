"""What it takes to test against a KMS or an HSM without one: emulators with real keys, and faults on demand.

This package creates private keys. It is for tests; nothing in the service imports it.
"""
