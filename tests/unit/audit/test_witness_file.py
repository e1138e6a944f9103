"""The witness: an older one never replaces a newer one, whoever writes when."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from sealwright.audit.witness_file import WitnessFile
from sealwright.keys.witness import Fact, Witness, WitnessUnreadableError


def witness(revision: int, acceptance: str = "", *, fact: Fact = Fact.QUEUED) -> Witness:
    keys = {"payments": {f"kid-{revision}": fact}}
    return Witness(deployment_id="deployment", revision=revision, keys=keys, acceptance=acceptance)


def test_f53_what_was_recorded_is_read_by_other_processes(tmp_path: Path) -> None:
    assert WitnessFile(tmp_path).read() is None
    for fact in Fact:
        one = witness(7 + fact, fact=fact)
        WitnessFile(tmp_path).record(one)
        assert WitnessFile(tmp_path).read() == one


def test_f53_a_slow_writer_does_not_take_the_witness_back(tmp_path: Path) -> None:
    file = WitnessFile(tmp_path)
    file.record(witness(9))
    file.record(witness(8))
    assert file.read() == witness(9)
    file.replace(witness(3, "accepted"))
    file.record(witness(12))
    assert file.read() == witness(3, "accepted"), "an operator has accepted another store meanwhile"
    file.record(witness(4, "accepted"))
    assert file.read() == witness(4, "accepted")


def test_f53_the_newest_of_many_writers_stays(tmp_path: Path) -> None:
    def write(first: int) -> None:
        file = WitnessFile(tmp_path)
        for revision in range(first, 80, 4):
            file.record(witness(revision))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert WitnessFile(tmp_path).read() == witness(79)


def test_f53_what_a_crash_left_is_no_witness(tmp_path: Path) -> None:
    file = WitnessFile(tmp_path)
    file.record(witness(1))
    file.path.with_suffix(".new").write_bytes(b'{"format":1,"depl')
    assert WitnessFile(tmp_path).read() == witness(1)
    file.record(witness(2))
    assert WitnessFile(tmp_path).read() == witness(2)


def test_f53_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_text("precious")
    file = WitnessFile(tmp_path)
    file.path.with_suffix(".new").symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        file.record(witness(1))
    assert target.read_text() == "precious"


def test_f53_a_witness_that_cannot_be_read_is_not_replaced_by_a_replica(tmp_path: Path) -> None:
    file = WitnessFile(tmp_path)
    file.path.write_bytes(b"damaged")
    with pytest.raises(WitnessUnreadableError):
        file.record(witness(1))
    assert file.path.read_bytes() == b"damaged"
