"""Key URIs: `awskms:///arn:aws:kms:…` and their kin, in the form that the ecosystem uses."""

from __future__ import annotations

import hashlib

from sealwright.jose import base64url


def scheme(uri: str) -> str:
    """Return the scheme of a key URI; empty where there is none."""
    head, colon, _ = uri.partition(":")
    return head if colon else ""


def fingerprint(uri: str) -> str:
    """Return a short name for a key URI that discloses nothing of it, for logs."""
    return base64url.encode(hashlib.sha256(uri.encode()).digest())[:12]
