"""Checksums of Google Cloud KMS ("Verifying end-to-end data integrity"): CRC32C of what is sent and of what comes back."""

from __future__ import annotations

from typing import Any

import google_crc32c


def crc32c(value: bytes) -> int:
    """Return the CRC32C of bytes."""
    return int(google_crc32c.value(value))


def matches(holder: Any, field: str, value: bytes) -> bool:
    """Tell whether a message has a checksum, and it is that of the value. An absent one is no reason to trust the value.

    Args:
        holder: The protobuf message.
        field: Name of its google.protobuf.Int64Value.
        value: The bytes that it must fit.
    """
    return bool(holder.HasField(field)) and getattr(holder, field).value == crc32c(value)
