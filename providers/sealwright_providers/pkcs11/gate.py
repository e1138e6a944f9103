"""Keeps calls into the module and its reset apart.

C_Finalize while another thread is in a call is undefined (PKCS#11 v2.40 §5.4), and C_CloseAllSessions is unsafe too in practice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sealwright.provider import ProviderTimeoutError, ProviderUnavailableError


class Gate:
    """Admits any number of calls, or one exclusive caller. All deadlines are of `time.monotonic`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside: dict[object, float] = {}
        self._owner_until: float | None = None

    @contextmanager
    def call(self, deadline: float) -> Iterator[None]:
        """Enter for a call.

        Raises:
            ProviderTimeoutError: An exclusive caller kept the module up to the deadline.
            ProviderUnavailableError: An exclusive caller hangs.
        """
        ticket = object()
        with self._changed:
            self._wait_for_owner(deadline)
            self._inside[ticket] = deadline
        try:
            yield
        finally:
            with self._changed:
                del self._inside[ticket]
                self._changed.notify_all()

    @contextmanager
    def alone(self, deadline: float) -> Iterator[None]:
        """Enter exclusively: wait for the calls inside to end, and make new calls wait.

        Raises:
            ProviderTimeoutError: The calls inside did not end by the deadline.
            ProviderUnavailableError: A call inside hangs: it is past its own deadline.
        """
        with self._changed:
            self._wait_for_owner(deadline)
            self._owner_until = deadline
            try:
                self._wait_for_others(deadline)
            except BaseException:
                self._release()
                raise
        try:
            yield
        finally:
            with self._changed:
                self._release()

    def _release(self) -> None:
        self._owner_until = None
        self._changed.notify_all()

    def _wait_for_others(self, deadline: float) -> None:
        while self._inside:
            now = time.monotonic()
            if now >= min(self._inside.values()):
                raise ProviderUnavailableError("the PKCS#11 module cannot be reset, because a call into it hangs")
            if now >= deadline:
                raise ProviderTimeoutError(
                    "calls into the PKCS#11 module did not end before the deadline, so it could not be reset"
                )
            self._changed.wait(min(deadline, *self._inside.values()) - now)

    def _wait_for_owner(self, deadline: float) -> None:
        while self._owner_until is not None:
            now = time.monotonic()
            if now >= self._owner_until:
                raise ProviderUnavailableError("the reset of the PKCS#11 module hangs")
            if now >= deadline:
                raise ProviderTimeoutError("the reset of the PKCS#11 module did not end before the deadline")
            self._changed.wait(min(deadline, self._owner_until) - now)


@contextmanager
def held(lock: threading.Lock, deadline: float) -> Iterator[None]:
    """Hold a lock, after waiting for it up to a deadline.

    Raises:
        ProviderTimeoutError: It was not free before the deadline.
    """
    if not lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
        raise ProviderTimeoutError("another call to the token did not end before the deadline")
    try:
        yield
    finally:
        lock.release()
