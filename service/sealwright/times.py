"""Constants of time that several packages need."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The epoch of NumericDate (RFC 7519 §2) and of POSIX time."""
SECOND: Final = timedelta(seconds=1)
MINUTE: Final = timedelta(minutes=1)
