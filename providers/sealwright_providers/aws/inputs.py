"""What Sign and GenerateMac get: a digest, the message itself, or the message representative of ML-DSA."""

from __future__ import annotations

from typing import Final, NamedTuple

from sealwright.provider import (
    Algorithm,
    KeyFormatError,
    MessageTooLargeError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
    PublicKey,
    load_public_key,
)
from sealwright_providers.aws.algorithms import MAX_MESSAGE_BYTES

_MAX_KEYS: Final = 1000


class SignInput(NamedTuple):
    """The input of Sign.

    Attributes:
        message: Message, up to 4096 bytes.
        message_type: MessageType.
    """

    message: bytes
    message_type: str


def direct(algorithm: Algorithm, message: bytes, *, digest: bool) -> SignInput | None:
    """Return the input that needs no public key; None: only the message representative is short enough.

    Args:
        algorithm: The JWS algorithm.
        message: The signing input.
        digest: Whether to send a digest where the algorithm allows it.

    Raises:
        MessageTooLargeError: AWS KMS cannot sign a message of this size with the algorithm.
    """
    if digest and algorithm.prehashed:
        return SignInput(algorithm.digest(message), "DIGEST")
    if len(message) <= MAX_MESSAGE_BYTES:
        return SignInput(message, "RAW")
    if algorithm.has_representative:
        return None
    raise MessageTooLargeError(
        f"AWS KMS signs messages of at most {MAX_MESSAGE_BYTES} bytes here; this one has {len(message)}",
        metadata={"size": str(len(message)), "limit": str(MAX_MESSAGE_BYTES)},
    )


class PublicKeys:
    """Public keys by ARN, from which representatives are computed. An ARN always means the same key."""

    def __init__(self) -> None:
        self._keys: dict[str, PublicKey] = {}

    def __contains__(self, arn: str) -> bool:
        return arn in self._keys

    def add(self, arn: str, spki: bytes) -> None:
        """Keep a public key.

        Raises:
            ProviderUnavailableError: The bytes are not a public key.
        """
        try:
            key = load_public_key(spki)
        except KeyFormatError:
            raise ProviderUnavailableError("the answer of AWS KMS contains no usable public key") from None
        if len(self._keys) >= _MAX_KEYS:
            self._keys.clear()
        self._keys[arn] = key

    def representative(self, arn: str, algorithm: Algorithm, message: bytes) -> SignInput:
        """Return the message representative, computed with a key that was added.

        Raises:
            ProviderUnsupportedError: The key is not for this algorithm.
        """
        key = self._keys[arn]
        if not algorithm.fits(key):
            raise ProviderUnsupportedError(f"the key in AWS KMS is not a key for {algorithm.name}")
        return SignInput(algorithm.representative(key, message), "EXTERNAL_MU")
