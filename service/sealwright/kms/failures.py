"""Failed calls to a KMS in the log: what failed and why, once a minute for each kind of failure."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable
from typing import Final

from sealwright.errors import SealwrightError

log = logging.getLogger(__name__)

_AGAIN_SECONDS: Final = 60.0
_MAX_CAUSES: Final = 5
_KINDS: Final = 256


class FailureLog:
    """Logs the failures of one provider."""

    def __init__(self, provider: str, elapsed: Callable[[], float]) -> None:
        """Prepare.

        Args:
            provider: Its name in the configuration.
            elapsed: Stopwatch, in seconds.
        """
        self._provider = provider
        self._elapsed = elapsed
        self._logged: dict[tuple[str, str, str], float] = {}
        self._more: dict[tuple[str, str, str], int] = {}

    def note(self, operation: str, error: SealwrightError) -> None:
        """Log a failed call, unless the same kind of failure was logged less than a minute ago; those are counted."""
        cause = cause_of(error.__cause__)
        kind = (operation, error.reason, cause)
        now = self._elapsed()
        logged = self._logged.get(kind)
        if logged is not None and now - logged < _AGAIN_SECONDS:
            self._more[kind] = self._more.get(kind, 0) + 1
            return
        if len(self._logged) >= _KINDS:
            self._logged.clear()
            self._more.clear()
        self._logged[kind] = now
        more = self._more.pop(kind, 0)
        known = "; ".join(text for text in (error.message, getattr(error, "detail", "") or cause) if text)
        since = f"; {more} more since the last such line" if more else ""
        log.info("provider %s: %s failed: %s (%s)%s", self._provider, operation, error.reason, known, since)


def cause_of(fault: BaseException | None) -> str:
    """Return what an exception says about its cause, without any text of a KMS, or an empty string."""
    for _ in range(_MAX_CAUSES):
        match fault:
            case None:
                return ""
            case ssl.SSLCertVerificationError():
                return f"TLS failed: {fault.verify_message}"
            case ssl.SSLError():
                return f"TLS failed: {(fault.reason or 'no further details').replace('_', ' ').lower()}"
            case OSError(errno=int(number)) if number > 0:
                return os.strerror(number)
        deeper = fault.__cause__ or fault.__context__ or next((a for a in fault.args if isinstance(a, Exception)), None)
        if deeper is None:
            break
        fault = deeper
    name = type(fault).__name__
    return f"TLS failed ({name})" if "SSL" in name else name
