"""The file of a Unix socket, which only one service at a time may have.

A listener replaces a socket that nobody listens on, and a socket does not tell whether a service is only starting.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
import time
from typing import Final

WAIT_SECONDS: Final = 5.0
"""How long a start waits for a service that is ending."""
_POLL_SECONDS: Final = 0.05
_LOCK: Final = ".lock"


class SocketFile:
    """Keeps other services away from a path, with a lock on a file beside it. The operating system releases it at our end.

    The lock file is never deleted: another service could have opened it and wait for the lock, while a third one makes a new file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock: int | None = None

    async def take(self, seconds: float = WAIT_SECONDS) -> None:
        """Take the path. A socket that nobody listens on is left to be replaced.

        Args:
            seconds: How long to wait for a service that has it.

        Raises:
            OSError: Another program has the path (`EADDRINUSE`), or the lock file cannot be made.
        """
        end = time.monotonic() + seconds
        while not self._try_lock():
            if time.monotonic() > end:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
            await asyncio.sleep(_POLL_SECONDS)
        if self._answers():  # another kind of program, or a service whose lock file was deleted
            self.unlock()
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))

    def unlock(self) -> None:
        """Let others have the path. The socket has been removed."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _try_lock(self) -> bool:
        lock = os.open(self._path + _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._lock = lock
        return True

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(0)  # with a full backlog, connect would wait
            try:
                probe.connect(self._path)
            except (ConnectionRefusedError, FileNotFoundError):
                return False
            except OSError as e:
                return e.errno not in {
                    errno.ENOTSOCK,
                    errno.EPROTOTYPE,
                }  # binding it reports what is not a socket
            return True
