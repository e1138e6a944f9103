"""F60: audit files are deleted after the configured retention, and never before."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

from sealwright.audit.settings import AuditSettings
from sealwright.audit.writer import AuditWriter
from sealwright.clock import SystemClock

DAY = 86400.0


def old_files(directory: Path) -> None:
    for name, days in (("old.jsonl", 8.0), ("old.000001.jsonl", 9.0), ("young.jsonl", 6.0), ("other.txt", 99.0)):
        file = directory / name
        file.write_text('{"sequence":1}\n')
        os.utime(file, (time.time() - days * DAY,) * 2)


def names(directory: Path) -> set[str]:
    return {f.name for f in directory.iterdir() if not f.name.startswith(".")}


async def test_f60_files_that_are_older_than_the_retention_are_deleted(tmp_path: Path) -> None:
    old_files(tmp_path)
    writer = AuditWriter(AuditSettings(path=str(tmp_path), retention=timedelta(days=7)), "mine", SystemClock())
    await writer.write("sign", {})
    os.utime(writer.path, (time.time() - 99 * DAY,) * 2)
    await writer.prune()
    assert names(tmp_path) == {"young.jsonl", "other.txt", "mine.jsonl"}
    await writer.aclose()


async def test_f60_without_a_retention_nothing_is_deleted(tmp_path: Path) -> None:
    old_files(tmp_path)
    before = names(tmp_path)
    writer = AuditWriter(AuditSettings(path=str(tmp_path)), "mine", SystemClock())
    await writer.prune()
    await writer.aclose()
    assert names(tmp_path) == {*before, "mine.jsonl"}
