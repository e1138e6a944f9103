"""The audit writer: JSON lines that are appended and synced before a caller learns that they exist."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from queue import SimpleQueue
from typing import Any, Final, NamedTuple

from sealwright import metrics
from sealwright.audit.file import AuditFile
from sealwright.audit.gathering import Gathering
from sealwright.audit.records import AUDIT_RESUMED
from sealwright.audit.settings import AuditSettings
from sealwright.clock import Clock
from sealwright.errors import ConfigurationError
from sealwright.threads import give_way

log = logging.getLogger(__name__)

_PRUNE_SECONDS: Final = 3600.0

_OWN_FIELDS: Final = frozenset({"sequence", "time", "replica", "event"})


class AuditUnavailableError(Exception):
    """A record could not be made durable, so what it describes must not happen."""


class _Pending(NamedTuple):
    body: bytes
    future: asyncio.Future[None]
    urgent: bool


class AuditWriter:
    """Appends records to this replica's own file.

    A thread writes and syncs. Records that arrive meanwhile share the next sync, so that many signatures need few syncs. If a write
    fails (a full disk), the writer truncates the file to where it was: a record that was not acknowledged is not there, and the
    sequence numbers have no gap. If the file cannot be truncated, the next record starts on a new line, and its number shows the
    gap.

    Before each group of records the writer checks that the file is still where it was. A file that was renamed, deleted or
    replaced is opened again, and a record says so.

    Attributes:
        failure: Why the last group of records could not be written; None: it was written.
        under_way: How many decisions are open. Their records are about to come.
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
        self._retention = settings.retention
        self._prune_at = 0.0
        self.path = self._file.path
        self._pending: list[_Pending] = []
        self._groups: SimpleQueue[list[_Pending] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._gathering = Gathering()
        self._sequence = 0
        self._closed = False
        self.failure: str | None = None
        self.under_way = 0

    async def write(self, event: str, record: Mapping[str, Any], *, urgent: bool = False) -> None:
        """Write a record, and return once it is durable. It is written even if the caller is cancelled.

        Args:
            event: What was decided or done.
            record: JSON values. They contain no token, no signature and no key URI.
            urgent: The record may use the room that is kept back on the disk.

        Raises:
            AuditUnavailableError: It could not be made durable.
        """
        await self.submit(event, record, urgent=urgent)

    def submit(self, event: str, record: Mapping[str, Any], *, urgent: bool = False) -> asyncio.Future[None]:
        """Hand a record over. The future completes when the record is durable, or fails with AuditUnavailableError."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        if self._closed:
            _fail(future, "the audit is closed")
            return future
        try:
            body = self._body(event, record)
        except (TypeError, ValueError, RecursionError):
            log.exception("an audit record of %s cannot be encoded as JSON", event)
            _fail(future, "the audit record cannot be encoded as JSON")
            return future
        self._pending.append(_Pending(body, future, urgent))
        if self._idle.is_set():
            self._idle.clear()
            if self.under_way == 1:
                self._hand_over()
            else:
                # Not now: the records of everything that this turn of the loop brings share one sync.
                loop.call_soon(self._hand_over)
        return future

    def reopen(self) -> None:
        """Open the file again before the next record, for a log rotation by other programs."""
        self._file.reopen()

    async def probe(self) -> None:
        """Try to write again after a failure, so that health does not need a caller to find out."""
        if self.failure is not None and self._idle.is_set() and not self._closed:
            await asyncio.wait([self.submit(AUDIT_RESUMED, {})])

    async def prune(self) -> None:
        """Delete files that are older than the configured retention. This looks once an hour."""
        now = time.monotonic()
        if self._retention is None or now < self._prune_at:
            return
        self._prune_at = now + _PRUNE_SECONDS
        before = time.time() - self._retention.total_seconds()
        deleted = await asyncio.to_thread(self._file.prune, before)
        if deleted:
            log.info("%d audit files are older than the retention and were deleted", deleted)

    async def aclose(self) -> None:
        """Write the pending records and close the file. It may be called twice."""
        if self._closed:
            return
        self._closed = True
        await self._idle.wait()
        if self._thread is not None:
            self._groups.put(None)
            await asyncio.to_thread(self._thread.join)
        self._gathering.close()
        self._file.close()

    def _hand_over(self) -> None:
        """Give the pending records to the thread. The next group follows when this one is done."""
        group, self._pending = self._pending, []
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._work, args=(loop,), name="sealwright-audit", daemon=True)
            self._thread.start()
        self._groups.put(group)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write groups in the thread until None comes."""
        give_way()
        while (group := self._groups.get()) is not None:
            try:
                failures = self._commit(group)
            except Exception as error:
                log.exception("the audit writer has a bug")
                failures = [f"the audit writer has a bug ({type(error).__name__})"] * len(group)
            try:
                loop.call_soon_threadsafe(self._done, group, failures)
            except RuntimeError:
                return  # The loop has been closed, so nobody waits any longer.

    def _done(self, group: list[_Pending], failures: list[str | None]) -> None:
        """Tell the waiting callers, and hand the next group over."""
        failed = sum(f is not None for f in failures)
        if failed:
            metrics.AUDIT_FAILURES.inc(failed)
        self._note(next((f for f in failures if f is not None), None), failed)
        for pending, failure in zip(group, failures, strict=True):
            if pending.future.done():
                continue
            if failure is None:
                pending.future.set_result(None)
            else:
                _fail(pending.future, failure)
        pause = 0 if self._closed else self._gathering.seconds(self.under_way)
        if pause:
            asyncio.get_running_loop().call_later(pause, self._continue)
        else:
            self._continue()

    def _continue(self) -> None:
        if self._pending:
            self._hand_over()
        else:
            self._idle.set()

    def _note(self, failure: str | None, records: int) -> None:
        if failure is not None:
            log.error("%d audit records could not be written to %s: %s", records, self.path, failure)
        elif self.failure is not None:
            log.info("audit records can be written to %s again", self.path)
        self.failure = failure

    def _commit(self, batch: list[_Pending]) -> list[str | None]:
        """Write a group of records in the thread. Return for each of them why it could not be written."""
        try:
            event = self._file.prepare()
            if event is not None:
                self._append([self._body(event, {})], urgent=True)
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
        if not _OWN_FIELDS.isdisjoint(record):
            record = {name: value for name, value in record.items() if name not in _OWN_FIELDS}
        return _encode({"time": _timestamp(self._clock.now()), "replica": self._replica_id, "event": event, **record})


def _fail(future: asyncio.Future[None], failure: str) -> None:
    future.set_exception(AuditUnavailableError(failure))
    future.exception()  # Marks it as seen, in case nobody waits for the record.


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
    return f"{time.isoformat(timespec='milliseconds')[:-6]}Z"
