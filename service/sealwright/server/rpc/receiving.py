"""Receives requests that do not come at once, within bounds: how many at a time, for how long, and how much of them is kept.

A call asks for the rest of its message only when it has a place. Without a place, flow control lets no more of it come than
`STREAM_WINDOW`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from google.rpc.code_pb2 import Code  # type: ignore[import-untyped]

from sealwright.errors import (
    OverloadedError,
    RequestInvalidError,
    RequestTooLargeError,
    SealwrightError,
    Violation,
)
from sealwright.server.http2.session import STREAM_WINDOW
from sealwright.server.rpc.call import Call, UnreadableMessageError

SMALL_MESSAGE: Final = 256 * 1024
"""Most bytes of a request that is not a batch. The largest token that any issuer allows is much smaller."""
RECEIVE_SECONDS: Final = 10.0
"""Longest time until a request is complete."""
PATIENCE_SECONDS: Final = 2.0
"""The same while others wait for a place."""
PLACES: Final = 32
PLACES_PER_CONNECTION: Final = 8
WAITING: Final = 2048
"""Most calls that wait for a place."""
_HELD_BYTES: Final = 64 * 1024 * 1024
"""Most bytes of requests whose calls are under way, and that did not fit into the window of a stream."""
_SWEEP_SECONDS: Final = 1.0

Received = bytes | SealwrightError
"""A request, or why it was not received."""


class _Connection:
    """The requests of one connection."""

    __slots__ = ("peer", "queued", "receiving", "waiting")

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.receiving = 0
        self.queued = False
        self.waiting: deque[asyncio.Future[None]] = deque()


class Receiving:
    """The requests of one worker that are not complete yet."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._connections: dict[str, _Connection] = {}
        self._turns: deque[_Connection] = deque()
        self._receiving = 0
        self._waiting = 0
        self._held = 0
        self._began: dict[asyncio.Task[Any], float] = {}
        self._reading: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()

    async def receive(self, call: Call, task: asyncio.Task[Any]) -> Received:
        """Return the request of a call, or the error to answer it with. `release` a request when its call is over.

        Args:
            call: The call. One connection cannot take all places.
            task: The task that runs the call.
        """
        self._began[task] = self._clock()
        peer = call.peer.address
        try:
            if call.complete:  # It only has to be put together, and waits for nobody.
                return self._held_or_refused(await call.read())
            group = self._connections.get(peer) or self._connections.setdefault(peer, _Connection(peer))
            if group.receiving >= PLACES_PER_CONNECTION or self._receiving >= PLACES or group.waiting:
                if self._waiting >= WAITING and not self._makes_room_for(group):
                    return _too_many()
                await self._place(group)
            else:
                self._take(group)
            self._reading[task] = self._clock()
            try:
                message = await call.read()
            finally:
                del self._reading[task]
                self._leave(group)
        except OverloadedError as error:  # It had to make room for another connection.
            return error
        except UnreadableMessageError as error:
            return (
                RequestTooLargeError(error.message)
                if error.code == Code.RESOURCE_EXHAUSTED
                else _invalid(error.message)
            )
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            task.uncancel()
            return _invalid("the request was not complete in time")
        finally:
            del self._began[task]
            self._late.discard(task)
        return self._held_or_refused(message)

    def _held_or_refused(self, message: bytes | None) -> Received:
        if message is None:
            return _invalid("the request has no complete message")
        if len(message) > STREAM_WINDOW:
            if self._held + len(message) > _HELD_BYTES:
                return OverloadedError("too many large requests are under way", retry_after=1)
            self._held += len(message)
        return message

    def release(self, message: Received) -> None:
        """Forget a request."""
        if isinstance(message, bytes) and len(message) > STREAM_WINDOW:
            self._held -= len(message)

    async def run(self) -> None:
        """End what takes too long, again and again."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self.sweep()

    def drain(self) -> None:
        """End all of them, because the service stops."""
        self._end(self._began, float("inf"))

    def sweep(self) -> None:
        """End the requests that are not complete in time."""
        now = self._clock()
        self._end(self._began, now - RECEIVE_SECONDS)
        if self._waiting:
            self._end(self._reading, now - PATIENCE_SECONDS)

    def _end(self, tasks: Mapping[asyncio.Task[Any], float], latest: float) -> None:
        for task, began in tasks.items():  # the oldest first
            if began > latest:
                break
            if task not in self._late:
                self._late.add(task)
                task.cancel()

    def _take(self, group: _Connection) -> None:
        group.receiving += 1
        self._receiving += 1

    def _makes_room_for(self, group: _Connection) -> bool:
        """End the newest call of the connection with the most that wait. Return whether one has more than this one."""
        largest = max(self._turns, key=lambda g: len(g.waiting))
        if len(largest.waiting) <= len(group.waiting) + 1:
            return False
        self._waiting -= 1
        turn = largest.waiting.pop()
        if not turn.done():
            turn.set_exception(_too_many())
        return True

    async def _place(self, group: _Connection) -> None:
        """Wait for a place. Connections take turns, and each is served in the order of its calls."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        group.waiting.append(turn)
        self._waiting += 1
        if not group.queued:
            group.queued = True
            self._turns.append(group)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._leave(group)
            else:
                with contextlib.suppress(ValueError):  # `_admit` or `_makes_room_for` may have met it already.
                    group.waiting.remove(turn)
                    self._waiting -= 1
                self._forget(group)
            raise

    def _leave(self, group: _Connection) -> None:
        group.receiving -= 1
        self._receiving -= 1
        if self._turns:
            self._admit()
        self._forget(group)

    def _forget(self, group: _Connection) -> None:
        if not group.receiving and not group.waiting and not group.queued:
            self._connections.pop(group.peer, None)

    def _admit(self) -> None:
        """Give free places to those who wait."""
        for _ in range(len(self._turns)):
            if self._receiving >= PLACES:
                return
            group = self._turns.popleft()
            while group.waiting and group.receiving < PLACES_PER_CONNECTION and self._receiving < PLACES:
                turn = group.waiting.popleft()
                self._waiting -= 1
                if not turn.cancelled():
                    self._take(group)
                    turn.set_result(None)
                    break
            group.queued = bool(group.waiting)
            if group.queued:
                self._turns.append(group)
            else:
                self._forget(group)


def _too_many() -> OverloadedError:
    return OverloadedError("too many requests are arriving", retry_after=1)


def _invalid(problem: str) -> RequestInvalidError:
    return RequestInvalidError([Violation("", problem)])
