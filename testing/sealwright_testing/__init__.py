"""Everything to test without a KMS or an HSM: emulators with real keys, faults on demand, and the contract for providers.

This package creates private keys. It is only for tests, and the service does not import it.
"""
