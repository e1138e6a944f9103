"""The audit writer: JSON lines that are appended and synced before a caller learns that they exist."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sealwright import metrics
from sealwright.audit.file import AuditFile
from sealwright.audit.records import AUDIT_REOPENED, AUDIT_RESUMED, AUDIT_ROTATED
from sealwright.audit.settings import AuditSettings
from sealwright.clock import Clock
from sealwright.errors import ConfigurationError

log = logging.getLogger(__name__)

_GATHER_SECONDS: Final = 0.001


class AuditUnavailableError(Exception):
    """A record could not be made durable, so what it describes must not happen."""


@dataclass(frozen=True, slots=True)
class _Pending:
    body: bytes
    future: asyncio.Future[None]
    urgent: bool


class AuditWriter:
    """Appends records to this replica's own file.

    Records that arrive during a sync share the next one, so that many signatures need few syncs. If a write fails (a full disk),
    the writer truncates the file to where it was: a record that was not acknowledged is not there, and the sequence numbers have
    no gap. If the file cannot be truncated, the next record starts on a new line, and its number shows the gap.

    Before each group of records the writer checks that the file is still where it was. A file that was renamed, deleted or
    replaced is opened again, and a record says so.

    Attributes:
        failure: Why the last group of records could not be written; None: it was written.
    """

    def __init__(self, settings: AuditSettings, replica_id: str, clock: Clock) -> None:
        """Open the file.

        Raises:
            ConfigurationError: No file can be created there.
        """
        self._replica_id = replica_id
        self._clock = clock
        try:
            self._file = AuditFile(settings, replica_id)
        except OSError as e:
            raise ConfigurationError([f"audit.path: no file can be created there: {e.strerror}"]) from e
        self.path = self._file.path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sealwright-audit")
        self._pending: list[_Pending] = []
        self._flusher: asyncio.Task[None] | None = None
        self._sequence = 0
        self._closed = False
        self.failure: str | None = None

    async def write(self, event: str, record: Mapping[str, Any], *, urgent: bool = False) -> None:
        """Write a record, and return once it is durable.

        Args:
            event: What was decided or done.
            record: JSON values. They contain no token, no signature and no key URI.
            urgent: The record may use the room that is kept back on the disk.

        Raises:
            AuditUnavailableError: It could not be made durable.
        """
        await asyncio.shield(self.submit(event, record, urgent=urgent))

    def submit(self, event: str, record: Mapping[str, Any], *, urgent: bool = False) -> asyncio.Future[None]:
        """Hand a record over. The future completes when the record is durable, or fails with AuditUnavailableError."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_retrieve)
        if self._closed:
            future.set_exception(AuditUnavailableError("the audit is closed"))
            return future
        try:
            body = self._body(event, record)
        except (TypeError, ValueError, RecursionError):
            log.exception("an audit record of %s cannot be encoded as JSON", event)
            future.set_exception(AuditUnavailableError("the audit record cannot be encoded as JSON"))
            return future
        self._pending.append(_Pending(body, future, urgent))
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush())
        return future

    def reopen(self) -> None:
        """Open the file again before the next record, for a log rotation by other programs."""
        self._file.reopen()

    async def probe(self) -> None:
        """Try to write again after a failure, so that health does not need a caller to find out."""
        if self.failure is not None and self._flusher is None and not self._closed:
            await asyncio.wait([self.submit(AUDIT_RESUMED, {})])

    async def aclose(self) -> None:
        """Write the pending records and close the file. It may be called twice."""
        if self._closed:
            return
        self._closed = True
        if self._flusher is not None:
            await self._flusher
        await asyncio.to_thread(self._thread.shutdown)
        self._file.close()

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._pending:
            batch, self._pending = self._pending, []
            failures = await loop.run_in_executor(self._thread, self._commit, batch)
            failed = sum(f is not None for f in failures)
            if failed:
                metrics.AUDIT_FAILURES.inc(failed)
            self._note(next((f for f in failures if f is not None), None), failed)
            for pending, failure in zip(batch, failures, strict=True):
                if pending.future.done():
                    continue
                if failure is None:
                    pending.future.set_result(None)
                else:
                    pending.future.set_exception(AuditUnavailableError(failure))
            if len(batch) > 1:
                # Under load, let records gather: a sync for each would wake a thread for each.
                await asyncio.sleep(_GATHER_SECONDS)
        self._flusher = None

    def _note(self, failure: str | None, records: int) -> None:
        if failure is not None:
            log.error("%d audit records could not be written to %s: %s", records, self.path, failure)
        elif self.failure is not None:
            log.info("audit records can be written to %s again", self.path)
        self.failure = failure

    def _commit(self, batch: list[_Pending]) -> list[str | None]:
        """Write a group of records in the thread. Return for each of them why it could not be written."""
        try:
            if self._file.reopen_if_moved():
                self._append([self._body(AUDIT_REOPENED, {})], urgent=True)
            if self._file.rotate_if_due():
                self._append([self._body(AUDIT_ROTATED, {})], urgent=True)
            self._append([p.body for p in batch], urgent=False)
        except OSError as error:
            failure = f"{error.strerror} (errno {error.errno})"
        else:
            self._file.keep_room()
            return [None] * len(batch)
        urgent = [p.body for p in batch if p.urgent]
        try:
            if urgent:
                self._append(urgent, urgent=True)
        except OSError:
            urgent = []
        return [None if p.urgent and urgent else failure for p in batch]

    def _append(self, bodies: list[bytes], *, urgent: bool) -> None:
        first = self._sequence + 1
        lines = b"".join(b'{"sequence":%d,%b\n' % (n, body[1:]) for n, body in enumerate(bodies, first))
        self._sequence += len(bodies)
        try:
            if urgent:
                self._file.append_urgent(lines)
            else:
                self._file.append(lines)
        except OSError:
            if not self._file.torn:
                self._sequence -= len(bodies)
            raise

    def _body(self, event: str, record: Mapping[str, Any]) -> bytes:
        """Return a record without its number. What the writer says cannot be replaced by what the record says.

        Raises:
            ValueError: A number is not finite.
            TypeError: A value cannot be expressed in JSON.
        """
        head = {"time": _timestamp(self._clock.now()), "replica": self._replica_id, "event": event}
        body = {k: v for k, v in record.items() if k != "sequence"}
        return _encode({**head, **body, **head})


def _retrieve(future: asyncio.Future[None]) -> None:
    """Mark a failure as seen, in case nobody waits for the record."""
    if not future.cancelled():
        future.exception()


_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _encode(record: Mapping[str, Any]) -> bytes:
    """Return one line of ASCII without its line end, which any JSON parser reads (RFC 8259 §8.2: no unpaired surrogates).

    Raises:
        ValueError: A number is not finite.
        TypeError: A value cannot be expressed in JSON.
    """
    text = _json(record)
    if "\\ud" in text:
        whole = json.dumps(record, ensure_ascii=False, allow_nan=False)
        whole = whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        text = json.dumps(json.loads(whole), separators=(",", ":"))
    return text.encode("ascii")


def _timestamp(time: datetime) -> str:
    return f"{time.astimezone(UTC).isoformat(timespec='milliseconds')[:-6]}Z"
