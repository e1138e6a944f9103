"""Emulators that speak the wire protocols of cloud KMS to the vendors' own client libraries."""
