"""The one boundary that writes a record for each decision: its head, the rule of outcomes, and what happens without an audit.

Every call of ours but GetJwks runs inside a `Decision`. It writes exactly one record: `allowed` when the call succeeds, and
`denied`, `failed` or `cancelled` when an exception leaves it. A change to keys has one more record, `begun`, which is durable
before anything changes. `audit/records.py` has the schema.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import accumulate
from types import TracebackType
from typing import Any, Final, Self

from sealwright import metrics
from sealwright.audit.records import KEY_CHANGED, KEY_PUBLISHED, NAMES, REFUSALS_OMITTED, URGENT, Outcome
from sealwright.audit.refusals import RefusalLimit
from sealwright.audit.writer import AuditUnavailableError, AuditWriter
from sealwright.calls import Arrival, Call
from sealwright.errors import Code, InternalError, OverloadedError, RequestTooLargeError, SealwrightError
from sealwright.keys.lifecycle import Key

log = logging.getLogger(__name__)

_DENIED: Final = frozenset({Code.PERMISSION_DENIED, Code.UNAUTHENTICATED})
_CALLERS_FAULT: Final = frozenset({*_DENIED, Code.INVALID_ARGUMENT, Code.NOT_FOUND})
"""Codes of refusals, of which a caller can cause any number. Failures of a KMS are always recorded."""
_CANCELLED: Final = "CANCELLED"
_MAX_TEXT: Final = 1024
_KEPT_TEXT: Final = 256
_MAX_LIST: Final = 4096
_KEY_FIELDS: Final = ("issuer", "series", "kid", "algorithm", "provider")
_KEY_TIMES: Final = (
    "publish_time",
    "ready_time",
    "retire_time",
    "withdraw_time",
    "revoke_time",
    "disable_time",
    "destroy_due_time",
    "destroy_time",
)

Check = Callable[[], None]
"""Raises a SealwrightError if a token must not be released."""


class Decision:
    """One decision about one call, from its arrival to its record.

    Use it with `async with`. What leaves the block decides the outcome, unless `allow` has already done so.
    """

    __slots__ = ("_arrival", "_call", "_event", "_fields", "_limit", "_on_error", "_settled", "_urgent", "_writer")

    def __init__(self, writer: AuditWriter, limit: RefusalLimit, event: str, arrival: Arrival | Call) -> None:
        self._writer = writer
        self._limit = limit
        self._event = event
        self._urgent = event in URGENT
        self._arrival = arrival
        self._call = arrival if type(arrival) is Call else None
        self._fields: dict[str, Any] = {}
        self._on_error: Outcome | None = None
        self._settled = False

    @property
    def call(self) -> Call:
        """The authenticated call.

        Raises:
            RuntimeError: The caller has not been identified yet.
        """
        if self._call is None:
            raise RuntimeError("the call is not authenticated yet")
        return self._call

    def identify(self, caller: str) -> None:
        """Note who makes the call."""
        self._call = Call(*self._arrival[:4], caller)

    def note(self, **fields: Any) -> None:
        """Add fields to the record; a later value replaces an earlier one.

        Args:
            fields: JSON values. They contain no token, no signature, no key URI and no other claim than the schema names. Texts
                of more than 1024 characters are cut, and end with their SHA-256. So are lists of texts with more than 4096.

        Raises:
            ValueError: The schema does not have a field of that name.
        """
        if not fields.keys() <= NAMES:
            raise ValueError(f"fields that audit/records.py does not have: {', '.join(sorted(fields.keys() - NAMES))}")
        for name, value in fields.items():
            if type(value) is str and len(value) > _MAX_TEXT:
                fields[name] = _cut(value)
            elif type(value) is list and sum(map(len, value)) > _MAX_LIST:
                fields[name] = _cut_list(value)
        self._fields |= fields

    def part(self, request_id: str) -> Decision:
        """Return a decision of its own for one request of a batch."""
        call = self.call
        part = Decision(self._writer, self._limit, "sign", call.part(request_id))
        part.note(batch_request_id=call.request_id)
        return part

    def delegate(self) -> None:
        """Leave the records to the parts; this decision writes none."""
        self._settled = True

    async def begin(self) -> None:
        """Make a record durable that says that a change is about to start.

        Raises:
            InternalError: The record could not be written, so the change must not start.
        """
        await self._require(Outcome.BEGUN)

    async def allow(self, check: Check | None = None) -> None:
        """Make the record `allowed` durable now, so that what was decided may leave.

        Args:
            check: Runs before the record is written, and again once it is durable, since that may take long. If it raises, the
                outcome is `withheld`.

        Raises:
            InternalError: The record could not be written.
            SealwrightError: The check failed.
        """
        if check is not None:
            self._on_error = Outcome.WITHHELD
            check()
            self._on_error = None
        self._settled = True  # The record is made durable even if the caller leaves now.
        try:
            await self._require(Outcome.ALLOWED)
        except InternalError:
            self._settled = False
            raise
        if check is None:
            return
        try:
            check()
        except SealwrightError as error:
            await self._record_refusal(Outcome.WITHHELD, error.reason)
            raise

    async def __aenter__(self) -> Self:
        self._writer.under_way += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.under_way -= 1
        if self._settled:
            return
        self._settled = True
        if error is None:
            await self._require(Outcome.ALLOWED)
        elif isinstance(error, SealwrightError):
            refused = Outcome.DENIED if error.code in _DENIED else Outcome.FAILED
            limited = _is_callers_fault(error) and self._on_error is None
            await self._record_refusal(self._on_error or refused, error.reason, limited=limited)
        elif isinstance(error, Exception):
            await self._record_refusal(Outcome.FAILED, InternalError.reason)
        else:
            # Not awaited: the task is being cancelled. The writer still makes the record durable.
            self._writer.submit(self._event, self._record(Outcome.CANCELLED, _CANCELLED))

    async def _require(self, outcome: Outcome) -> None:
        try:
            await self._writer.write(self._event, self._record(outcome, ""), urgent=self._urgent)
        except AuditUnavailableError as error:
            log.error("request %s: %s", self._arrival.request_id, error)  # noqa: TRY400 - the writer has logged the cause
            raise InternalError("the audit record could not be written") from None

    async def _record_refusal(self, outcome: Outcome, reason: str, *, limited: bool = False) -> None:
        """Write the record of something that did not happen. If that fails, the caller still gets the original error."""
        if limited and not self._limit.admits(self._name()):
            metrics.tally(metrics.REFUSALS_OMITTED).add()
            return
        try:
            await self._writer.write(self._event, self._record(outcome, reason))
        except AuditUnavailableError:
            log.error(  # noqa: TRY400 - the writer has logged the cause
                "request %s: the audit has no record of its refusal (%s)", self._arrival.request_id, reason
            )

    def _name(self) -> str:
        """Return under which name the call's refusals are counted: the caller, or the host of an unknown one."""
        return self._call.caller if self._call is not None else self._arrival.peer.rpartition(":")[0]

    def _record(self, outcome: Outcome, reason: str) -> dict[str, Any]:
        arrival = self._arrival
        caller = {} if self._call is None else {"caller": self._call.caller}
        head = {"method": arrival.method, "request_id": arrival.request_id, **caller, "peer": arrival.peer}
        return {**head, "outcome": outcome, "reason": reason, **self._fields}


class Audit:
    """Opens decisions, and records what happens to keys."""

    def __init__(self, writer: AuditWriter, limit: RefusalLimit) -> None:
        self._writer = writer
        self._limit = limit

    def decision(self, arrival: Arrival | Call, event: str) -> Decision:
        """Open the decision about a call.

        Args:
            arrival: The call; a `Call` if its caller is already known.
            event: The event of its record (`records.EVENTS`).
        """
        return Decision(self._writer, self._limit, event, arrival)

    def omits(self, caller: str) -> bool:
        """Return whether the refusal of a call gets no record, because its caller has had many. Then it needs no decision."""
        if not self._limit.omits(caller):
            return False
        metrics.tally(metrics.REFUSALS_OMITTED).add()
        return True

    async def tick(self) -> None:
        """Do what time brings: record how many refusals were omitted, and try to write again after a failure."""
        for caller, omitted in self._limit.over():
            self._writer.submit(REFUSALS_OMITTED, {"caller": _cut(caller), "omitted": omitted})
        await self._writer.probe()
        await self._writer.prune()

    def reopen(self) -> None:
        """Open the file again before the next record, for a log rotation by other programs."""
        self._writer.reopen()

    @property
    def failure(self) -> str | None:
        """Why records cannot be written; None: they can."""
        return self._writer.failure

    async def published(self, key: Key) -> None:
        """See `KeyEvents.published`."""
        _log_key(key, "published")
        await self._write_key(KEY_PUBLISHED, key, {name: getattr(key, name) for name in _KEY_TIMES})

    async def changed(self, old: Key, new: Key) -> None:
        """See `KeyEvents.changed`."""
        times = {name: getattr(new, name) for name in _KEY_TIMES if getattr(new, name) != getattr(old, name)}
        _log_key(new, ", ".join(f"{name} is {time.isoformat() if time else 'removed'}" for name, time in times.items()))
        await self._write_key(KEY_CHANGED, new, times)

    async def _write_key(self, event: str, key: Key, times: Mapping[str, datetime | None]) -> None:
        """Write the record of a change that the store already has; it stands even if the record could not be written."""
        record = {name: getattr(key, name) for name in _KEY_FIELDS}
        record |= {name: time.isoformat() for name, time in times.items() if time is not None}
        try:
            await self._writer.write(event, record, urgent=event in URGENT)
        except AuditUnavailableError:
            log.error("the audit has no record of %s of key %s", event, key.kid)  # noqa: TRY400 - the writer has logged the cause


def _log_key(key: Key, what: str) -> None:
    log.info("issuer %s, series %s, key %s: %s", key.issuer, key.series, key.kid, what)


def _cut(text: str) -> str:
    """Return a text that is short enough for a record: what is longer is cut, and ends with its SHA-256."""
    if len(text) <= _MAX_TEXT:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{text[:_KEPT_TEXT]}… ({len(text)} characters, SHA-256 {digest})"


def _cut_list(texts: list[str]) -> list[str]:
    """Return the first texts of a list that is too long for a record. The last text names their number and a SHA-256 of all."""
    sizes = accumulate(map(len, texts))
    kept = [text for text, size in zip(texts, sizes, strict=True) if size <= _MAX_TEXT]
    whole = json.dumps(texts, ensure_ascii=False, separators=(",", ":"))
    digest = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()
    return [*kept, f"… ({len(texts)} texts, SHA-256 of their JSON {digest})"]


def _is_callers_fault(error: SealwrightError) -> bool:
    """Return whether a caller can cause any number of such refusals."""
    return error.code in _CALLERS_FAULT or isinstance(error, RequestTooLargeError) or _shed(error)


def _shed(error: SealwrightError) -> bool:
    """Return whether this replica was too busy to receive the call, and no KMS was."""
    return isinstance(error, OverloadedError) and "provider" not in error.metadata
