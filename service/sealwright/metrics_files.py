"""The files in which the workers of one supervisor keep their numbers, so that any of them can add all up (prometheus_client).

Metrics never stop a worker. Without files it counts for itself alone. Files that were deleted are made again; a counter then begins
at zero, as after a restart. Each file has its blocks on the disk before it is mapped into memory, also when it grows: otherwise a
full disk would end the process with SIGBUS at some later count.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import prometheus_client.values
from prometheus_client.mmap_dict import MmapedDict

from sealwright.ids import uuid7

log = logging.getLogger(__name__)

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client looks for the directory here. The supervisor sets it for its workers."""
_TYPES: Final = ("counter", "histogram")
_LOCK: Final = ".lock"
_BYTES: Final = 1024 * 1024
_SMALLEST: Final = 64 * 1024
_ENTRY: Final = 28
"""The bytes of a number in a file beside its name, at most."""
_RETRY_SECONDS: Final = 1.0
_GONE: Final = "gone"
"""In the names of the files that have the numbers of workers that have ended."""


class ReservedDict(MmapedDict):
    """A file with numbers whose blocks are on the disk before they are used.

    While the disk is full, numbers with new names are not kept. They are, whole, at the first count after that.
    """

    def __init__(self, filename: str, *, read_mode: bool = False) -> None:
        """Open or make a file.

        Raises:
            OSError: It cannot be opened or made.
        """
        if not read_mode:
            file = os.open(filename, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(file, 0, max(os.fstat(file).st_size, _SMALLEST))
            finally:
                os.close(file)
        self._retry = 0.0
        self._full = False
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]

    def read_value(self, key: str) -> tuple[float, float]:
        """Return a number and its time; zeros if there is no room for a new one."""
        value: tuple[float, float] = super().read_value(key) if self._has_room(key) else (0.0, 0.0)  # type: ignore[no-untyped-call]
        return value

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        """Write a number, if there is room for it."""
        if self._has_room(key):
            super().write_value(key, value, timestamp)  # type: ignore[no-untyped-call]

    def _has_room(self, key: str) -> bool:
        """Return whether a number is in the file or fits into it. Let the file grow if necessary."""
        if key in self._positions or self._used + len(key.encode()) + _ENTRY <= self._capacity:
            return True
        if time.monotonic() < self._retry:
            return False
        size = self._capacity
        while size < self._used + len(key.encode()) + _ENTRY:
            size *= 2
        try:
            os.posix_fallocate(self._f.fileno(), 0, size)
        except OSError as error:
            self._retry = time.monotonic() + _RETRY_SECONDS
            if not self._full:
                log.warning("the files of the metrics cannot grow: %s; what is new is not counted", error.strerror)
            self._full = True
            return False
        self._full = False
        return True


class _Files:
    """This worker's files."""

    def __init__(self) -> None:
        self._generation = 0
        self.used = False

    def identity(self) -> str:
        """Return what is in the names of the files. prometheus_client opens new ones when it changes."""
        return f"{os.getpid()}-{self._generation}"

    def paths(self) -> list[Path]:
        """Return where the files are."""
        directory = Path(os.environ.get(VARIABLE, "/nonexistent"))
        return [directory / f"{kind}_{self.identity()}.db" for kind in _TYPES]

    def make(self) -> None:
        """Make the files.

        Raises:
            OSError: They cannot be made.
        """
        for path in self.paths():
            _make_private(path.parent)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.posix_fallocate(file, 0, _BYTES)
            finally:
                os.close(file)

    def remake(self) -> bool:
        """Make the files again if they were deleted. Return whether prometheus_client must open new ones."""
        if not self.used or all(path.exists() for path in self.paths()):
            return False
        self._generation += 1
        try:
            self.make()
        except OSError as error:
            self._generation -= 1  # It goes on with the files that have no name any more.
            log.debug("the files of the metrics cannot be made again: %s", error.strerror)
            return False
        log.warning("the files of the metrics were deleted; the counters of this worker begin at zero")
        return True


_FILES: Final = _Files()


def begin() -> None:
    """Let the metrics that are made from now on share their numbers, if there is a directory for it that can be used."""
    values: Any = prometheus_client.values
    values.ValueClass = values.MutexValue
    if not os.environ.get(VARIABLE):
        return
    try:
        _FILES.make()
    except OSError as error:
        log.warning("the directory of the metrics cannot be used: %s; each worker counts for itself", error.strerror)
        return
    values.MmapedDict = ReservedDict
    values.ValueClass = values.MultiProcessValue(_FILES.identity)
    _FILES.used = True


def remake() -> bool:
    """See `_Files.remake`."""
    return _FILES.remake()


def directory() -> Path | None:
    """Return the directory whose files have the numbers of all workers; None: this worker counts for itself."""
    found = Path(os.environ.get(VARIABLE, ""))
    return found if _FILES.used and found.is_dir() else None


@contextmanager
def locked(folder: Path, kind: int) -> Iterator[None]:
    """Hold the lock of a directory: shared to add all numbers up, exclusive to move some.

    Raises:
        OSError: The directory is missing or cannot be written.
    """
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, kind)
        yield
    finally:
        os.close(lock)


def absorb(folder: Path, pid: int) -> None:
    """Add the numbers of a worker that has ended to those of all that have ended, and delete its files."""
    with suppress(OSError), locked(folder, fcntl.LOCK_EX):
        for kind in _TYPES:
            for path in folder.glob(f"{kind}_{pid}-*.db"):
                try:
                    _add(path, folder / f"{kind}_{_GONE}.db")
                except Exception:
                    log.exception("the numbers of a worker that has ended are lost")
                path.unlink(missing_ok=True)


def _add(source: Path, target: Path) -> None:
    numbers = list(MmapedDict.read_all_values_from_file(str(source)))  # type: ignore[no-untyped-call]
    total: Any = ReservedDict(str(target))
    try:
        for key, value, _time, _position in numbers:
            if value:
                total.write_value(key, total.read_value(key)[0] + value, 0.0)
    finally:
        total.close()


@contextmanager
def folder_of_supervisor(parent: Path) -> Iterator[Path]:
    """Make a directory for the workers of this supervisor, and delete it at the end; and what other supervisors have left behind.

    Yields:
        The directory. It may not exist: then workers try to make it.
    """
    folder = parent / uuid7()
    alive = None
    try:
        _make_private(folder)
        _clean(parent)
        alive = os.open(parent / f"{folder.name}{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(alive, fcntl.LOCK_EX)
    except OSError as error:
        log.warning("the directory of the metrics cannot be used: %s", error.strerror)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if alive is not None:
            (parent / f"{folder.name}{_LOCK}").unlink(missing_ok=True)
            os.close(alive)


def _make_private(folder: Path) -> None:
    """Make a directory and the one around it, for this user alone.

    Raises:
        OSError: They cannot be made.
    """
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def _clean(parent: Path) -> None:
    """Delete the directories of supervisors that were killed: their locks are free."""
    for path in parent.glob(f"*{_LOCK}"):
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(parent / path.name.removesuffix(_LOCK), ignore_errors=True)
            path.unlink(missing_ok=True)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)
