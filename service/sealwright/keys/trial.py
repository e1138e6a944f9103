"""The trial of a new key: it signs a fixed text before it is published.

A KMS may describe another key than the one that signs, and a new key may be visible to one call and not yet to the next one. Both
would be found only by callers, after the key was published.
"""

from __future__ import annotations

import logging
from typing import Final

from sealwright import metrics
from sealwright.errors import SignatureRejectedError
from sealwright.jose.algorithms import Algorithm
from sealwright.jose.jwk import load_public_key
from sealwright.jose.signatures import accepted
from sealwright.kms.guard import GuardedProvider
from sealwright.provider import KeyDescription

log = logging.getLogger(__name__)

TEXT: Final = b"# Sealwright tries out a new key with this text. It is not a token.\n"
"""What is signed. No JWS signing input begins with `#`: it begins with base64url, also if the payload is not encoded (RFC 7797)."""
ROUNDS: Final = 3
"""Signatures in a row that must succeed, since a KMS answers from several machines."""


async def try_key(provider: GuardedProvider, key: KeyDescription, algorithm: Algorithm) -> None:
    """Let a new key sign, and verify its signatures with the public key that would be published.

    The secret of an HS* key is only in the KMS. There the form is checked, and that all rounds give the same value.

    Raises:
        SignatureRejectedError: A signature is not by that key. This is an alarm.
        ProviderError: The KMS does not sign with the key yet, or failed.
    """
    public_key = None if key.public_key is None else load_public_key(key.public_key)
    secrets: set[bytes] = set()
    for _ in range(ROUNDS):
        raw = await provider.sign_patiently(key.uri, algorithm, TEXT, timeout=provider.manage_timeout)
        signature = accepted(raw.value, raw.encoding, public_key, algorithm, TEXT)
        if signature is not None and public_key is None:
            secrets.add(signature)
        if signature is None or raw.key_uri != key.uri or len(secrets) > 1:
            metrics.SIGNATURES_REJECTED.labels(provider.name).inc()
            raise SignatureRejectedError(
                "the KMS returned something that is not a signature by the new key",
                metadata={"provider": provider.name},
            )
