"""Sealwright signs JSON Web Tokens with keys that never leave a KMS or an HSM."""

__version__ = "0.1.0"
