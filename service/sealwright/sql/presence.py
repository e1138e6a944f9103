"""Which replicas on this host are alive: each locks a file of its own, which the kernel releases when its process ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_SUFFIX: Final = ".lock"
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class Presence:
    """The lock files of the replicas that share a store on this host. They are only used by the thread of the store."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: dict[str, int] = {}

    def enter(self, replica_id: str) -> None:
        """Show that this process is alive, until `leave` or its end.

        Raises:
            OSError: The file cannot be created.
        """
        self._directory.mkdir(mode=0o700, exist_ok=True)
        while replica_id not in self._held:
            file = self._try_lock(self._directory / f"{replica_id}{_SUFFIX}", _FLAGS)
            if file is not None:
                self._held[replica_id] = file

    def leave(self) -> None:
        """Remove the files of this process."""
        for replica_id, file in self._held.items():
            with suppress(OSError):
                (self._directory / f"{replica_id}{_SUFFIX}").unlink()
            os.close(file)
        self._held.clear()

    @contextmanager
    def dead(self) -> Iterator[list[str]]:
        """Find the replicas that have ended without a farewell. Their files are removed at the end of the block.

        Yields:
            Their ids. No other process finds the same ones meanwhile.
        """
        found: dict[str, int] = {}
        with suppress(OSError):
            for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
                if path.stem not in self._held and (file := self._try_lock(path, os.O_RDWR | os.O_CLOEXEC)) is not None:
                    found[path.stem] = file
        try:
            yield list(found)
            for replica_id in found:
                (self._directory / f"{replica_id}{_SUFFIX}").unlink(missing_ok=True)
        finally:
            for file in found.values():
                os.close(file)

    @staticmethod
    def _try_lock(path: Path, flags: int) -> int | None:
        """Return a locked file; None: another process holds it, or has just removed it."""
        try:
            file = os.open(path, flags, 0o600)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(file)
        return None
