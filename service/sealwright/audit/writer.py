"""The audit writer: JSON lines, appended and synced before anybody is told that they are there."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sealwright.audit.settings import AuditSettings
from sealwright.clock import Clock

_FILE_MODE: Final = 0o640
_DIRECTORY_MODE: Final = 0o750


class AuditUnavailableError(Exception):
    """A record could not be made durable: what it is about must not happen."""


class AuditWriter:
    """Appends records to this replica's own file.

    Records that arrive while a sync is under way share the next one, so that many signatures cost few syncs. After a write has
    failed (a full disk) the next begins on a line of its own.
    """

    def __init__(self, settings: AuditSettings, replica_id: str, clock: Clock) -> None:
        self._replica_id = replica_id
        self._clock = clock
        directory = Path(settings.path)
        directory.mkdir(parents=True, exist_ok=True, mode=_DIRECTORY_MODE)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self.path = directory / f"{replica_id}.jsonl"
        self._file = os.open(self.path, flags, _FILE_MODE)
        _sync_directory(directory)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sealwright-audit")
        self._pending: list[tuple[bytes, asyncio.Future[None]]] = []
        self._flusher: asyncio.Task[None] | None = None
        self._sequence = 0
        self._torn = False
        self._closed = False

    async def write(self, event: str, record: Mapping[str, Any]) -> None:
        """Write a record and return when it is durable.

        Args:
            event: What was decided or done.
            record: JSON values; no token, no signature, no key URI.

        Raises:
            AuditUnavailableError: It could not be made durable.
        """
        await asyncio.shield(self.submit(event, record))

    def submit(self, event: str, record: Mapping[str, Any]) -> asyncio.Future[None]:
        """Hand a record over; the future ends when it is durable, or with AuditUnavailableError."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_retrieve)
        if self._closed:
            future.set_exception(AuditUnavailableError("the audit is closed"))
            return future
        self._sequence += 1
        head = {
            "time": _timestamp(self._clock.now()),
            "replica": self._replica_id,
            "sequence": self._sequence,
            "event": event,
        }
        line = json.dumps({**head, **record}, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"
        self._pending.append((line, future))
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush())
        return future

    async def aclose(self) -> None:
        """Write what is pending and close the file. May be called twice."""
        if self._closed:
            return
        self._closed = True
        if self._flusher is not None:
            await self._flusher
        await asyncio.to_thread(self._thread.shutdown)
        os.close(self._file)

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._pending:
            batch, self._pending = self._pending, []
            try:
                await loop.run_in_executor(self._thread, self._append, b"".join(line for line, _ in batch))
            except OSError as error:
                failure = AuditUnavailableError(f"the audit record could not be written (errno {error.errno})")
                for _, future in batch:
                    if not future.done():
                        future.set_exception(failure)
            else:
                for _, future in batch:
                    if not future.done():
                        future.set_result(None)
        self._flusher = None

    def _append(self, data: bytes) -> None:
        if self._torn:
            data = b"\n" + data
        self._torn = True
        while data:
            data = data[os.write(self._file, data) :]
        os.fdatasync(self._file)
        self._torn = False


def _retrieve(future: asyncio.Future[None]) -> None:
    """Mark a failure as seen, where nobody waits for the record."""
    if not future.cancelled():
        future.exception()


def _sync_directory(directory: Path) -> None:
    """Make the new file's name durable (fsync(2))."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _timestamp(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
