"""How the threads of a worker share a processor with its event loop.

The audit's thread and a provider's each do a few microseconds of work and wake the next one. By default Linux lets a
thread that wakes up interrupt the one that runs: a busy event loop was interrupted four times for each token. With SCHED_BATCH a
thread that wakes up waits until a processor is free (sched(7)). On a busy machine events then gather, and a token costs about a
tenth less (docs/performance.md). On a machine with a processor to spare nothing changes.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

_LINE: Final = 128
"""Bytes that the line of a thread has at most."""


def give_way() -> bool:
    """Let the calling thread, and the threads that it starts from now on, not interrupt others when they wake up.

    Returns:
        Whether this was done. It is not where an operator has chosen a policy, or where the system has no such policy.
    """
    try:
        if os.sched_getscheduler(0) != os.SCHED_OTHER:
            return False
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except (AttributeError, OSError):
        return False
    return True


@contextlib.contextmanager
def giving_way() -> Iterator[None]:
    """Start threads that give way to the calling thread."""
    lowered = give_way()
    try:
        yield
    finally:
        if lowered:
            with contextlib.suppress(OSError):
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


class BusyTime:
    """How long a thread has run or has waited for a processor, from `/proc/[pid]/schedstat` (Linux, sched-stats.rst)."""

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        """Watch the calling thread.

        Args:
            clock: Its CPU time in seconds, for systems that do not count the waiting.
        """
        self._clock = clock
        self._file: int | None = None
        with contextlib.suppress(OSError):
            self._file = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)

    def read(self) -> float:
        """Return the seconds since the start of the thread. It must be the calling one."""
        if self._file is None:
            return self._clock()
        run, wait, _ = os.pread(self._file, _LINE, 0).split()
        return (int(run) + int(wait)) / 1e9

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
