"""One audit file: appended, synced, found again when it was moved, rotated, and with room kept back.

All methods run in the writer's thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path
from typing import Final

from sealwright.audit.records import AUDIT_REOPENED, AUDIT_ROTATED
from sealwright.audit.settings import AuditSettings

_FILE_MODE: Final = 0o640
_DIRECTORY_MODE: Final = 0o750
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
_RESERVE_BYTES: Final = 1024 * 1024
"""Room that is kept back for records of revocations and of changes to keys, which must be possible on a full disk."""
_ROOM_CHECK_SECONDS: Final = 1.0
_NOT_SUPPORTED: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_OUT_OF_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class AuditFile:
    """The file of one start of a worker.

    Attributes:
        path: Where records are appended.
        torn: Whether a failed write left a part of a line that could not be removed.
    """

    def __init__(self, settings: AuditSettings, replica_id: str) -> None:
        """Create the file.

        Raises:
            OSError: It cannot be created.
        """
        self._directory = Path(settings.path)
        self._rotate_bytes = settings.rotate_bytes
        self._rotate_seconds = None if settings.rotate_after is None else settings.rotate_after.total_seconds()
        self._name = replica_id
        self._parts = 0
        self._stop_using_it = False
        self._synced_writes = hasattr(os, "RWF_DSYNC")
        self.path = self._directory / f"{replica_id}.jsonl"
        self._reserve = self._directory / f".{replica_id}.reserve"
        self._room_checked = time.monotonic()
        self.torn = False
        self._directory.mkdir(parents=True, exist_ok=True, mode=_DIRECTORY_MODE)
        self._open()
        self._keep_room()

    def _open(self) -> None:
        file = os.open(self.path, _FLAGS, _FILE_MODE)
        try:
            # A new name is durable once its directory is synced (fsync(2)). The directory's own name needs its parent synced.
            sync_directory(self._directory)
            sync_directory(self._directory.parent)
        except OSError:
            os.close(file)
            raise
        self._file = file
        opened = os.fstat(file)
        self._identity, self._size = _identity(opened), opened.st_size
        self._opened = time.monotonic()
        self.torn = False

    def prepare(self) -> str | None:
        """Get ready for a group of records. Return the event that says what was done to the file; None: nothing.

        A file that was renamed, deleted or replaced, or that `reopen` asks about, is opened again. One that is large or old enough
        is closed under a numbered name, and a new one is opened. One `lstat` answers it all, because each call to the system makes
        the thread wait for the interpreter.

        Raises:
            OSError: It cannot be renamed or opened again. Records would be written to a file without a name.
        """
        try:
            there = self.path.lstat()
        except FileNotFoundError:
            there = None
        if there is None or _identity(there) != self._identity or self._stop_using_it:
            self._open_again()
            return AUDIT_REOPENED
        self._size = there.st_size
        old = self._rotate_seconds is not None and time.monotonic() - self._opened >= self._rotate_seconds
        if not self._size or (self._size < self._rotate_bytes and not old):
            return None
        self._rename()
        self._open_again()
        return AUDIT_ROTATED

    def reopen(self) -> None:
        """Open the file again before the next record."""
        self._stop_using_it = True

    def _open_again(self) -> None:
        old = self._file
        self._open()
        self._stop_using_it = False
        os.close(old)

    def _rename(self) -> None:
        while True:
            self._parts += 1
            numbered = self._directory / f"{self._name}.{self._parts:06}.jsonl"
            if not numbered.exists():
                break
        self.path.rename(numbered)

    def append(self, data: bytes) -> None:
        """Append data and sync it, or leave the file as it was.

        Raises:
            OSError: The data is not in the file.
        """
        if self.torn:
            data = b"\n" + data
        self.torn = True
        length = len(data)
        try:
            while data:
                data = data[self._write(data) :]
            if not self._synced_writes:
                os.fdatasync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                # Somebody else may have truncated the file since `prepare`.
                os.ftruncate(self._file, min(self._size, os.fstat(self._file).st_size))
                self.torn = False
            raise
        self._size += length
        self.torn = False

    def _write(self, data: bytes) -> int:
        """Append some data, and return how much. The system syncs it in the same call if it can (pwritev2(2))."""
        if self._synced_writes:
            try:
                return os.pwritev(self._file, [data], 0, os.RWF_DSYNC)  # O_APPEND appends, whatever the offset
            except OSError as error:
                if error.errno not in _NOT_SUPPORTED:
                    raise
                self._synced_writes = False
        return os.write(self._file, data)

    def append_urgent(self, data: bytes) -> None:
        """Append data like `append`; on a full disk use the room that was kept back.

        Raises:
            OSError: The data is not in the file.
        """
        try:
            self.append(data)
        except OSError as error:
            if error.errno not in _OUT_OF_ROOM:
                raise
            self._reserve.unlink(missing_ok=True)
            self._room_checked = -_ROOM_CHECK_SECONDS
            self.append(data)

    def keep_room(self) -> None:
        """Keep room back again after it was used. This looks once a second."""
        now = time.monotonic()
        if now - self._room_checked >= _ROOM_CHECK_SECONDS:
            self._room_checked = now
            if not self._reserve.exists():
                self._keep_room()

    def _keep_room(self) -> None:
        with contextlib.suppress(OSError):
            file = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _FILE_MODE)
            try:
                os.posix_fallocate(file, 0, _RESERVE_BYTES)
            finally:
                os.close(file)

    def prune(self, before: float) -> int:
        """Delete the files of any replica that were last written before a time, but not this one. Return how many.

        Args:
            before: The time, by the epoch.
        """
        deleted = 0
        for path in self._directory.glob("*.jsonl"):
            with contextlib.suppress(OSError):
                if path != self.path and path.lstat().st_mtime < before:
                    path.unlink()
                    deleted += 1
        return deleted

    def close(self) -> None:
        """Close the file, and give back the room."""
        with contextlib.suppress(OSError):
            self._reserve.unlink(missing_ok=True)
        os.close(self._file)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def sync_directory(directory: Path) -> None:
    """Make the new file's name durable (fsync(2))."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
