"""Audit records of what happens to keys."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any, Final

from sealwright.audit.writer import AuditUnavailableError, AuditWriter
from sealwright.keys.lifecycle import Key

log = logging.getLogger(__name__)

_TIMES: Final = ("publish_time", "ready_time", "retire_time", "withdraw_time", "revoke_time", "destroy_time")


class AuditedKeys:
    """Writes a record of every change to a key. The change stands, whether or not the record could be written: the store has it."""

    def __init__(self, audit: AuditWriter) -> None:
        self._audit = audit

    async def published(self, key: Key) -> None:
        """See `KeyEvents.published`."""
        await self._write("key_published", key, {name: getattr(key, name) for name in _TIMES})

    async def changed(self, old: Key, new: Key) -> None:
        """See `KeyEvents.changed`."""
        changes = {name: getattr(new, name) for name in _TIMES if getattr(new, name) != getattr(old, name)}
        await self._write("key_changed", new, changes)

    async def _write(self, event: str, key: Key, times: dict[str, Any]) -> None:
        record: dict[str, Any] = {
            "issuer": key.issuer,
            "series": key.series,
            "kid": key.kid,
            "algorithm": key.algorithm,
            "provider": key.provider,
        }
        record |= {name: time.isoformat() for name, time in times.items() if isinstance(time, datetime)}
        try:
            await self._audit.write(event, record)
        except AuditUnavailableError:
            log.error("%s of key %s is missing in the audit", event, key.kid)  # noqa: TRY400 - the writer has logged why
