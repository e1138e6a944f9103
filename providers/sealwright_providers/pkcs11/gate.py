"""Who is inside the module, so that nobody pulls it away from under anybody.

C_Finalize while another thread is in a call is undefined (PKCS#11 v2.40 §5.4), and C_CloseAllSessions is no better in practice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sealwright.errors import ProviderTimeoutError, ProviderUnavailableError


class Gate:
    """Lets any number of calls in, or one that wants the module for itself. All deadlines are of `time.monotonic`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside: dict[object, float] = {}
        self._owner_until: float | None = None

    @contextmanager
    def call(self, deadline: float) -> Iterator[None]:
        """Be inside.

        Raises:
            ProviderTimeoutError: Somebody has the module for themselves, up to the deadline.
            ProviderUnavailableError: Somebody has, and is stuck.
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
        """Be inside, and nobody else: new calls wait, and those inside are waited for.

        Raises:
            ProviderTimeoutError: They did not end by the deadline.
            ProviderUnavailableError: One of them is stuck, having gone on past its own deadline.
        """
        with self._changed:
            self._wait_for_owner(deadline)
            self._owner_until = deadline
            try:
                self._wait_for_others(deadline)
            except BaseException:
                self._let_others_in()
                raise
        try:
            yield
        finally:
            with self._changed:
                self._let_others_in()

    def _let_others_in(self) -> None:
        self._owner_until = None
        self._changed.notify_all()

    def _wait_for_others(self, deadline: float) -> None:
        while self._inside:
            now = time.monotonic()
            if now >= min(self._inside.values()):
                raise ProviderUnavailableError("a call into the PKCS#11 module hangs: it cannot be reset now")
            if now >= deadline:
                raise ProviderTimeoutError("the PKCS#11 module was busy for too long")
            self._changed.wait(min(deadline, *self._inside.values()) - now)

    def _wait_for_owner(self, deadline: float) -> None:
        while self._owner_until is not None:
            now = time.monotonic()
            if now >= self._owner_until:
                raise ProviderUnavailableError("the PKCS#11 module hangs while it is being reset")
            if now >= deadline:
                raise ProviderTimeoutError("the PKCS#11 module was being reset for too long")
            self._changed.wait(min(deadline, self._owner_until) - now)


@contextmanager
def held(lock: threading.Lock, deadline: float) -> Iterator[None]:
    """Hold a lock; wait for it up to a deadline.

    Raises:
        ProviderTimeoutError: It was not to be had.
    """
    if not lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
        raise ProviderTimeoutError("another call to the token took too long")
    try:
        yield
    finally:
        lock.release()
