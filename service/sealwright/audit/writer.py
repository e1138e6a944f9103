"""The audit writer: JSON lines that are appended and synced before a caller learns that they exist."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sealwright import metrics
from sealwright.audit.settings import AuditSettings
from sealwright.clock import Clock
from sealwright.errors import ConfigurationError

log = logging.getLogger(__name__)

_FILE_MODE: Final = 0o640
_DIRECTORY_MODE: Final = 0o750


class AuditUnavailableError(Exception):
    """A record could not be made durable, so what it describes must not happen."""


class AuditWriter:
    """Appends records to this replica's own file.

    Records that arrive during a sync share the next one, so that many signatures need few syncs. If a write fails (a full disk),
    the writer truncates the file to where it was: a record that was not acknowledged is not there, and the sequence numbers have
    no gap. If the file cannot be truncated, the next record starts on a new line, and its number shows the gap.
    """

    def __init__(self, settings: AuditSettings, replica_id: str, clock: Clock) -> None:
        """Open the file.

        Raises:
            ConfigurationError: No file can be created there.
        """
        self._replica_id = replica_id
        self._clock = clock
        directory = Path(settings.path)
        self.path = directory / f"{replica_id}.jsonl"
        try:
            self._file = _open(directory, self.path)
        except OSError as e:
            raise ConfigurationError([f"audit.path: no file can be created there: {e.strerror}"]) from e
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sealwright-audit")
        self._pending: list[tuple[bytes, asyncio.Future[None]]] = []
        self._flusher: asyncio.Task[None] | None = None
        self._sequence = 0
        self._torn = False
        self._closed = False

    async def write(self, event: str, record: Mapping[str, Any]) -> None:
        """Write a record, and return once it is durable.

        Args:
            event: What was decided or done.
            record: JSON values. They contain no token, no signature and no key URI.

        Raises:
            AuditUnavailableError: It could not be made durable.
        """
        await asyncio.shield(self.submit(event, record))

    def submit(self, event: str, record: Mapping[str, Any]) -> asyncio.Future[None]:
        """Hand a record over. The future completes when the record is durable, or fails with AuditUnavailableError."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_retrieve)
        if self._closed:
            future.set_exception(AuditUnavailableError("the audit is closed"))
            return future
        head = {"time": _timestamp(self._clock.now()), "replica": self._replica_id, "event": event}
        body = {k: v for k, v in record.items() if k != "sequence"}
        try:
            encoded = _encode({**head, **body, **head})
        except (TypeError, ValueError, RecursionError):
            log.exception("an audit record of %s cannot be encoded as JSON", event)
            future.set_exception(AuditUnavailableError("the audit record cannot be encoded as JSON"))
            return future
        self._pending.append((encoded, future))
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush())
        return future

    async def aclose(self) -> None:
        """Write the pending records and close the file. It may be called twice."""
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
            first = self._sequence + 1
            lines = b"".join(b'{"sequence":%d,%b\n' % (n, body[1:]) for n, (body, _) in enumerate(batch, first))
            self._sequence += len(batch)
            failure = ""
            try:
                await loop.run_in_executor(self._thread, self._append, lines)
            except OSError as error:
                failure = f"the audit record could not be written (errno {error.errno})"
                metrics.AUDIT_FAILURES.inc(len(batch))
                log.error("%d audit records could not be written: %s", len(batch), error.strerror)  # noqa: TRY400
                if not self._torn:
                    self._sequence -= len(batch)
            for _, future in batch:
                if future.done():
                    continue
                if failure:
                    future.set_exception(AuditUnavailableError(failure))
                else:
                    future.set_result(None)
        self._flusher = None

    def _append(self, data: bytes) -> None:
        """Append data and sync it, or leave the file as it was."""
        if self._torn:
            data = b"\n" + data
        before = os.fstat(self._file).st_size
        self._torn = True
        try:
            while data:
                data = data[os.write(self._file, data) :]
            os.fdatasync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, before)
                self._torn = False
            raise
        self._torn = False


def _retrieve(future: asyncio.Future[None]) -> None:
    """Mark a failure as seen, in case nobody waits for the record."""
    if not future.cancelled():
        future.exception()


def _open(directory: Path, path: Path) -> int:
    directory.mkdir(parents=True, exist_ok=True, mode=_DIRECTORY_MODE)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    file = os.open(path, flags, _FILE_MODE)
    try:
        # A new name is durable once its directory is synced (fsync(2)). The directory's own name needs its parent synced.
        _sync_directory(directory)
        _sync_directory(directory.parent)
    except OSError:
        os.close(file)
        raise
    return file


def _encode(record: Mapping[str, Any]) -> bytes:
    """Return one line of ASCII without its line end, which any JSON parser reads (RFC 8259 §8.2: no unpaired surrogates).

    Raises:
        ValueError: A number is not finite.
        TypeError: A value cannot be expressed in JSON.
    """
    text = json.dumps(record, separators=(",", ":"), allow_nan=False)
    if "\\ud" in text:
        whole = json.dumps(record, ensure_ascii=False, allow_nan=False)
        whole = whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        text = json.dumps(json.loads(whole), separators=(",", ":"))
    return text.encode("ascii")


def _sync_directory(directory: Path) -> None:
    """Make the new file's name durable (fsync(2))."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _timestamp(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
