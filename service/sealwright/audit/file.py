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

from sealwright.audit.settings import AuditSettings

_FILE_MODE: Final = 0o640
_DIRECTORY_MODE: Final = 0o750
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
_RESERVE_BYTES: Final = 1024 * 1024
"""Room that is kept back for records of revocations and of changes to keys, which must be possible on a full disk."""
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
        self.path = self._directory / f"{replica_id}.jsonl"
        self._reserve = self._directory / f".{replica_id}.reserve"
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
        self._identity = _identity(os.fstat(file))
        self._opened = time.monotonic()
        self.torn = False

    def reopen_if_moved(self) -> bool:
        """Open the file again if it was renamed, deleted or replaced, or if `reopen` was asked for. Return whether it was.

        Raises:
            OSError: It cannot be opened again. Records would be written to a file without a name.
        """
        try:
            there = _identity(self.path.lstat())
        except FileNotFoundError:
            there = None
        if there == self._identity and not self._stop_using_it:
            return False
        old = self._file
        self._open()
        self._stop_using_it = False
        os.close(old)
        return True

    def reopen(self) -> None:
        """Open the file again before the next record."""
        self._stop_using_it = True

    def rotate_if_due(self) -> bool:
        """Close a file that is large or old enough under a numbered name, and open a new one. Return whether that was due.

        Raises:
            OSError: The file cannot be renamed, or the new one cannot be opened.
        """
        size = os.fstat(self._file).st_size
        old = self._rotate_seconds is not None and time.monotonic() - self._opened >= self._rotate_seconds
        if not size or (size < self._rotate_bytes and not old):
            return False
        while True:
            self._parts += 1
            numbered = self._directory / f"{self._name}.{self._parts:06}.jsonl"
            if not numbered.exists():
                break
        self.path.rename(numbered)
        return self.reopen_if_moved()

    def append(self, data: bytes) -> None:
        """Append data and sync it, or leave the file as it was.

        Raises:
            OSError: The data is not in the file.
        """
        if self.torn:
            data = b"\n" + data
        before = os.fstat(self._file).st_size
        self.torn = True
        try:
            while data:
                data = data[os.write(self._file, data) :]
            os.fdatasync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, before)
                self.torn = False
            raise
        self.torn = False

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
            self.append(data)

    def keep_room(self) -> None:
        """Keep room back again after it was used."""
        if not self._reserve.exists():
            self._keep_room()

    def _keep_room(self) -> None:
        with contextlib.suppress(OSError):
            file = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _FILE_MODE)
            try:
                os.posix_fallocate(file, 0, _RESERVE_BYTES)
            finally:
                os.close(file)

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
