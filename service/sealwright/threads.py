"""How the threads of a worker share a processor with its event loop.

gRPC's threads, the audit's and a provider's each do a few microseconds of work and wake the next one. By default Linux lets a
thread that wakes up interrupt the one that runs: a busy event loop was interrupted four times for each token. With SCHED_BATCH a
thread that wakes up waits until a processor is free (sched(7)). On a busy machine events then gather, and a token costs about a
tenth less (docs/performance.md). On a machine with a processor to spare nothing changes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


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
