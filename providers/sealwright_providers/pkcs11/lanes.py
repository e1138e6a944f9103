"""Threads for calls that block, with one session each.

A C call cannot be cancelled: its caller stops waiting at the deadline, and the thread stays in the call until it returns. So each
provider has a fixed number of threads of its own, and nothing waits for one to end: not other providers, not the event loop, and
not the exit of the process, which would join threads of `concurrent.futures`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from sealwright.provider import ProviderTimeoutError, ProviderUnavailableError, give_way

T = TypeVar("T")
S = TypeVar("S")


_IN_PROCESS_SECONDS: Final = 0.0001
"""From this CPU time on, the token is taken to compute in this process, and not in an HSM that the thread waits for."""
_PATIENCE_SECONDS: Final = 0.01
"""How long a job of such a token waits for a thread that is busy before another one takes it. Two threads in a token in software do
no more than one, and fight for the interpreter."""
_WEIGHT: Final = 0.1
"""Of the newest job in the average CPU time of a job."""


class LaneSpentError(Exception):
    """The lane cannot open a session. It ends, and its work goes to another lane."""


@dataclass(slots=True, eq=False)
class _Job(Generic[S]):
    work: Callable[[S, float], Any]
    deadline: float
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    queued: float
    abandoned: bool = field(default=False)

    def answer(self, result: Any, error: BaseException | None) -> None:
        if not self.abandoned:
            try:
                self.loop.call_soon_threadsafe(self._deliver, result, error)
            except RuntimeError:
                self.abandoned = True  # The loop is closed.

    def _deliver(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


class Lanes(Generic[S]):
    """A fixed number of daemon threads, started on demand. Each has its own state.

    A thread that is busy takes the next job itself. If the token computes in this process, another thread helps only if jobs wait.
    """

    def __init__(self, size: int, state: Callable[[], S]) -> None:
        self._size = size
        self._state = state
        self._changed = threading.Condition()
        self._queue: deque[_Job[S]] = deque()
        self._running: dict[object, _Job[S] | None] = {}
        self._woken = 0
        self._seconds = 0.0
        self._relief: asyncio.TimerHandle | None = None
        self._closed = False

    async def run(self, work: Callable[[S, float], T], timeout: float) -> T:
        """Run a function in a thread.

        Args:
            work: Takes the state of its thread and its deadline (of `time.monotonic`).
            timeout: Seconds to wait. Work that has not begun by then never begins.

        Raises:
            ProviderTimeoutError: It took longer.
            ProviderUnavailableError: Every thread hangs in work past its deadline, or the provider is closed.
        """
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        job: _Job[S] = _Job(work, now + timeout, loop, loop.create_future(), now)
        self._submit(job, now)
        try:
            async with asyncio.timeout(timeout):
                result: T = await job.future
                return result
        except TimeoutError:
            raise ProviderTimeoutError("the token did not answer before the deadline") from None
        finally:
            job.abandoned = True

    async def aclose(self, timeout: float) -> bool:
        """Accept no more work, refuse what waits, and let the threads end.

        Args:
            timeout: Seconds to wait for them. A thread that hangs ends with its call, or with the process.

        Returns:
            Whether all threads have ended.
        """
        with self._changed:
            self._closed = True
            if self._relief is not None:
                self._relief.cancel()
            waiting, self._queue = list(self._queue), deque()
            self._changed.notify_all()
        for job in waiting:
            job.answer(None, _closed())
        end = time.monotonic() + timeout
        while self._running and time.monotonic() < end:  # noqa: ASYNC110 - threads do not notify the event loop of their end
            await asyncio.sleep(0.005)
        return not self._running

    def _submit(self, job: _Job[S], now: float) -> None:
        with self._changed:
            if self._closed:
                raise _closed()
            busy = [running for running in self._running.values() if running is not None]
            if len(busy) == self._size and all(running.deadline <= now for running in busy):
                raise ProviderUnavailableError("every session with the token hangs in a call")
            self._queue.append(job)
            if self._seconds < _IN_PROCESS_SECONDS or not (busy or self._woken):
                self._wake_another()
            elif self._relief is None:
                self._relief = job.loop.call_later(_PATIENCE_SECONDS, self._relieve)

    def _wake_another(self) -> None:
        """Wake one thread more than those that work or were woken and have not begun, or start it."""
        resting = sum(running is None for running in self._running.values()) - self._woken
        if resting > 0:
            self._woken += 1
            self._changed.notify()
        elif len(self._running) < self._size:
            self._woken += 1
            lane = object()
            self._running[lane] = None
            threading.Thread(target=self._serve, args=(lane,), name="sealwright-pkcs11", daemon=True).start()

    def _relieve(self) -> None:
        """Wake another thread if a job has waited too long."""
        with self._changed:
            self._relief = None
            if not self._queue or self._closed:
                return
            first, now = self._queue[0], time.monotonic()
            if now - first.queued >= _PATIENCE_SECONDS:
                self._wake_another()
            self._relief = first.loop.call_later(_PATIENCE_SECONDS, self._relieve)

    def _serve(self, lane: object) -> None:
        give_way()
        state = self._state()
        with self._changed:
            self._woken -= 1
        try:
            while (job := self._next(lane)) is not None:
                began = time.thread_time()
                try:
                    result = job.work(state, job.deadline)
                except LaneSpentError:
                    if not self._retire(lane, job):
                        job.answer(
                            None,
                            ProviderUnavailableError("the token refuses to open a session, because too many are open"),
                        )
                        continue
                    return
                except BaseException as e:  # noqa: BLE001 - every error belongs to the caller that waits
                    job.answer(None, e)
                else:
                    job.answer(result, None)
                del job
                self._seconds += _WEIGHT * (time.thread_time() - began - self._seconds)
        finally:
            with self._changed:
                self._running.pop(lane, None)

    def _next(self, lane: object) -> _Job[S] | None:
        """Return the next job that a caller still waits for; None: the lanes are closed."""
        with self._changed:
            self._running[lane] = None
            while True:
                while self._queue:
                    job = self._queue.popleft()
                    if not job.abandoned and time.monotonic() < job.deadline:
                        self._running[lane] = job
                        return job
                if self._closed:
                    return None
                self._changed.wait()
                self._woken = max(0, self._woken - 1)

    def _retire(self, lane: object, job: _Job[S]) -> bool:
        """Pass a job to the other lanes, if there are any, and reduce the number of lanes by one."""
        with self._changed:
            if len(self._running) == 1 or self._closed:
                return False
            del self._running[lane]
            self._size -= 1
            self._queue.appendleft(job)
            self._wake_another()
            return True


async def in_thread(work: Callable[[], T], timeout: float) -> T:
    """Run a function in a daemon thread of its own.

    Raises:
        ProviderTimeoutError: It took longer than `timeout` seconds.
    """
    lane: Lanes[None] = Lanes(1, lambda: None)
    try:
        return await lane.run(lambda _state, _deadline: work(), timeout)
    finally:
        await lane.aclose(0)


def _closed() -> ProviderUnavailableError:
    return ProviderUnavailableError("the provider is closed")
