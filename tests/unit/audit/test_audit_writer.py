"""The audit writer: what it says is durable is durable."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealwright.audit.settings import AuditSettings
from sealwright.audit.writer import AuditUnavailableError, AuditWriter
from sealwright.clock import SystemClock
from sealwright.errors import ConfigurationError

REPLICA = "0192f0e1-0000-7000-8000-000000000001"


def writer(directory: Path) -> AuditWriter:
    return AuditWriter(AuditSettings(path=str(directory)), REPLICA, SystemClock())


def records(path: Path) -> list[dict[str, Any]]:
    content = path.read_bytes()
    assert content.endswith(b"\n")
    return [json.loads(line) for line in content.split(b"\n")[:-1]]


@dataclass
class Disk:
    """`os.write` and friends, with faults."""

    log: list[str] = field(default_factory=list)
    room: int | None = None
    sync_error: int = 0
    truncate_error: int = 0
    before_sync: Callable[[], None] = lambda: None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write, sync, truncate = os.write, os.fdatasync, os.ftruncate

        def limited_write(file: int, data: bytes) -> int:
            if threading.current_thread().name != "sealwright-audit":
                return write(file, data)  # the log of another test has a thread of its own
            self.log.append("write")
            if self.room is not None:
                if not self.room:
                    raise OSError(errno.ENOSPC, "No space left on device")
                data = data[: self.room]
                self.room -= len(data)
            return write(file, data)

        def failing_sync(file: int) -> None:
            self.before_sync()
            if self.sync_error:
                raise OSError(self.sync_error, os.strerror(self.sync_error))
            sync(file)
            self.log.append("sync")

        def failing_truncate(file: int, length: int) -> None:
            if self.truncate_error:
                raise OSError(self.truncate_error, os.strerror(self.truncate_error))
            truncate(file, length)

        def synced_write(file: int, buffers: list[bytes], _offset: int, flags: int) -> int:
            assert flags == os.RWF_DSYNC
            written = limited_write(file, buffers[0])
            failing_sync(file)
            return written

        monkeypatch.setattr(os, "write", limited_write)
        monkeypatch.setattr(os, "fdatasync", failing_sync)
        monkeypatch.setattr(os, "pwritev", synced_write)
        monkeypatch.setattr(os, "ftruncate", failing_truncate)


@pytest.fixture(params=["one call", "two calls"])
def disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Faults of a disk, for a system that syncs as it writes and for one that does not."""
    if request.param == "two calls":
        monkeypatch.delattr(os, "RWF_DSYNC")
    one = Disk()
    one.install(monkeypatch)
    return one


@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
async def test_a_file_system_that_does_not_sync_as_it_writes_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    asked: list[int] = []
    synced: list[int] = []
    sync = os.fdatasync

    def refuse(file: int, *_more: Any) -> int:
        asked.append(file)
        raise OSError(error, os.strerror(error))

    def note(file: int) -> None:
        synced.append(file)
        sync(file)

    monkeypatch.setattr(os, "pwritev", refuse)
    monkeypatch.setattr(os, "fdatasync", note)
    one = writer(tmp_path)
    await one.write("sign", {"n": 1})
    await one.write("sign", {"n": 2})
    await one.aclose()
    assert [r["n"] for r in records(one.path)] == [1, 2]
    assert (len(asked), len(synced)) == (1, 2)


async def test_a_record_says_when_who_and_what(tmp_path: Path) -> None:
    one = writer(tmp_path)
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    await one.write("sign", {"issuer": "payments", "nested": {"a": [1, None, True]}})
    await one.aclose()
    (record,) = records(one.path)
    assert before <= datetime.fromisoformat(record.pop("time")) <= datetime.now(UTC)
    assert record == {
        "sequence": 1,
        "replica": REPLICA,
        "event": "sign",
        "issuer": "payments",
        "nested": {"a": [1, None, True]},
    }
    assert one.path == tmp_path / f"{REPLICA}.jsonl"


async def test_what_a_caller_says_cannot_take_the_place_of_what_the_writer_says(tmp_path: Path) -> None:
    one = writer(tmp_path)
    await one.write("sign", {"time": "never", "replica": "another", "sequence": 99, "event": "nothing", "issuer": "i"})
    await one.aclose()
    (record,) = records(one.path)
    assert (record["replica"], record["sequence"], record["event"], record["issuer"]) == (REPLICA, 1, "sign", "i")
    assert record["time"] != "never"


async def test_a_record_is_synced_before_its_write_returns(tmp_path: Path, disk: Disk) -> None:
    one = writer(tmp_path)
    on_disk: list[int] = []
    disk.before_sync = lambda: on_disk.append(len(records(one.path)))
    for _ in range(3):
        await one.write("sign", {})
        disk.log.append("returned")
    await one.aclose()
    assert disk.log == ["write", "sync", "returned"] * 3
    assert on_disk == [1, 2, 3]


async def test_many_writers_at_once_share_few_syncs(tmp_path: Path, disk: Disk) -> None:
    one = writer(tmp_path)
    await asyncio.gather(*(one.write("sign", {"n": n}) for n in range(500)))
    await one.aclose()
    assert disk.log.count("sync") <= 3
    assert [r["n"] for r in records(one.path)] == list(range(500))
    assert [r["sequence"] for r in records(one.path)] == list(range(1, 501))


async def test_writers_that_come_during_a_sync_share_the_next(tmp_path: Path, disk: Disk) -> None:
    one = writer(tmp_path)

    async def burst(n: int) -> None:
        for _ in range(10):
            await one.write("sign", {"n": n})

    await asyncio.gather(*(burst(n) for n in range(50)))
    await one.aclose()
    assert len(records(one.path)) == 500
    assert disk.log.count("sync") <= 12


async def test_a_full_disk_fails_the_records_that_did_not_fit_and_leaves_whole_lines(
    tmp_path: Path, disk: Disk
) -> None:
    one = writer(tmp_path)
    await one.write("sign", {"n": 0})
    disk.room = 30
    failed = await asyncio.gather(*(one.write("sign", {"n": n}) for n in (1, 2)), return_exceptions=True)
    assert [type(f) for f in failed] == [AuditUnavailableError] * 2
    assert all(f"errno {errno.ENOSPC}" in str(f) for f in failed)
    assert [r["n"] for r in records(one.path)] == [0]
    disk.room = None
    await one.write("sign", {"n": 3})
    await one.aclose()
    assert [(r["sequence"], r["n"]) for r in records(one.path)] == [(1, 0), (2, 3)]


async def test_a_sync_that_fails_makes_no_promise(tmp_path: Path, disk: Disk) -> None:
    one = writer(tmp_path)
    disk.sync_error = errno.EIO
    with pytest.raises(AuditUnavailableError, match=f"errno {errno.EIO}"):
        await one.write("sign", {"n": 1})
    assert one.path.read_bytes() == b""
    disk.sync_error = 0
    await one.write("sign", {"n": 2})
    await one.aclose()
    assert [(r["sequence"], r["n"]) for r in records(one.path)] == [(1, 2)]


async def test_a_torn_line_that_cannot_be_cut_off_is_ended_and_leaves_a_gap(tmp_path: Path, disk: Disk) -> None:
    one = writer(tmp_path)
    await one.write("sign", {"n": 0})
    disk.room, disk.truncate_error = 20, errno.EIO
    for n in (1, 2):
        with pytest.raises(AuditUnavailableError):
            await one.write("sign", {"n": n})
    disk.room = None
    await one.write("sign", {"n": 3})
    await one.write("sign", {"n": 4})
    await one.aclose()
    whole = [json.loads(line) for line in one.path.read_bytes().split(b"\n") if line.endswith(b"}")]
    assert [(r["sequence"], r["n"]) for r in whole] == [(1, 0), (4, 3), (5, 4)]


async def test_records_that_were_written_before_a_failure_are_not_concerned(tmp_path: Path, disk: Disk) -> None:
    one = writer(tmp_path)
    reached, go = threading.Event(), threading.Event()

    def wait() -> None:
        reached.set()
        go.wait(10)

    disk.before_sync = wait
    early = one.submit("sign", {"n": "early"})
    await asyncio.to_thread(reached.wait, 10)
    late = [one.submit("sign", {"n": "late"}) for _ in range(3)]
    disk.room = 0
    go.set()
    results = await asyncio.gather(early, *late, return_exceptions=True)
    disk.room = None
    await one.write("sign", {"n": "last"})
    await one.aclose()
    assert [type(r) for r in results] == [type(None), *[AuditUnavailableError] * 3]
    assert [(r["sequence"], r["n"]) for r in records(one.path)] == [(1, "early"), (2, "last")]


async def test_a_writer_that_gives_up_does_not_take_others_with_it(tmp_path: Path) -> None:
    one = writer(tmp_path)
    tasks = [asyncio.create_task(one.write("sign", {"n": n})) for n in range(10)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    await one.aclose()
    assert [r is None for r in results] == [False, True] * 5
    assert [r["n"] for r in records(one.path)] == list(range(10)), "what was decided stays on record"


async def test_closing_writes_what_is_pending_and_may_be_done_twice(tmp_path: Path) -> None:
    one = writer(tmp_path)
    pending = [one.submit("sign", {"n": n}) for n in range(5)]
    await one.aclose()
    await one.aclose()
    assert all(p.done() and p.exception() is None for p in pending)
    assert len(records(one.path)) == 5
    with pytest.raises(AuditUnavailableError, match="closed"):
        await one.write("sign", {})


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, float("nan"), float("inf"), object(), datetime.now(UTC)])
async def test_what_is_no_json_is_refused_and_takes_no_number(tmp_path: Path, value: object) -> None:
    one = writer(tmp_path)
    with pytest.raises(AuditUnavailableError, match="cannot be encoded as JSON"):
        await one.write("sign", {"value": value})
    await one.write("sign", {})
    await one.aclose()
    assert [r["sequence"] for r in records(one.path)] == [1]


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.characters())
    | st.text(st.sampled_from("\ud800\udfff\\u\"'\n\r\u2028\x85\0{}")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text(max_size=5), anything, max_size=4), min_size=1, max_size=4))
@settings(max_examples=80, deadline=None)
def test_every_record_is_one_line_of_ascii_that_any_parser_reads(
    tmp_path_factory: pytest.TempPathFactory, said: list[dict[str, Any]]
) -> None:
    async def write() -> Path:
        one = writer(tmp_path_factory.mktemp("audit"))
        for number, record in enumerate(said):
            await one.write("sign", {"value": record, "n": number})
        await one.aclose()
        return one.path

    path = asyncio.run(write())
    lines = path.read_bytes().split(b"\n")
    assert lines.pop() == b""
    assert len(lines) == len(said)
    assert path.read_text(encoding="ascii").splitlines() == [line.decode() for line in lines]
    for line, record in zip(lines, said, strict=True):
        read = json.loads(line)
        json.dumps(read, ensure_ascii=False).encode()  # fails for half of a surrogate pair
        if not _has_surrogates(record):
            assert read["value"] == record


def _has_surrogates(value: object) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in json.dumps(value, ensure_ascii=False))


async def test_half_of_a_surrogate_pair_is_replaced_and_a_whole_one_kept(tmp_path: Path) -> None:
    one = writer(tmp_path)
    await one.write("sign", {"half": "a\ud800b", "whole": "\U0001f511", "text": "\\ud800", "two": "\ud83d\udd11"})
    await one.aclose()
    (record,) = records(one.path)
    assert [record[k] for k in ("half", "whole", "text", "two")] == ["a\ufffdb", "\U0001f511", "\\ud800", "\U0001f511"]


async def test_nobody_else_may_read_the_files(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        one = writer(tmp_path / "new" / "audit")
    finally:
        os.umask(before)
    await one.aclose()
    assert stat.S_IMODE(one.path.stat().st_mode) == 0o640
    assert stat.S_IMODE(one.path.parent.stat().st_mode) == 0o750


async def test_a_symlink_in_the_files_place_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    (tmp_path / f"{REPLICA}.jsonl").symlink_to(target)
    with pytest.raises(ConfigurationError, match=r"^audit.path: no file can be created there: "):
        writer(tmp_path)
    assert not target.exists()


async def test_a_path_that_is_a_file_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("")
    with pytest.raises(ConfigurationError) as caught:
        writer(tmp_path / "audit")
    assert caught.value.problems == ("audit.path: no file can be created there: File exists",)


async def test_a_new_file_is_durable_in_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    sync = os.fsync

    def note(file: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{file}").readlink()))
        sync(file)

    monkeypatch.setattr(os, "fsync", note)
    one = writer(tmp_path / "audit")
    await one.aclose()
    assert synced == [str(tmp_path / "audit"), str(tmp_path)]
