from __future__ import annotations

import subprocess
import sys
import time
import uuid

from sealwright.ids import uuid7


def test_a_uuid7_holds_its_time_and_is_unique() -> None:
    before = time.time_ns() // 1_000_000
    made = [uuid.UUID(uuid7()) for _ in range(1000)]
    after = time.time_ns() // 1_000_000
    assert len(set(made)) == 1000
    assert {(u.version, u.variant) for u in made} == {(7, uuid.RFC_4122)}
    assert all(before <= u.int >> 80 <= after for u in made)


FORK = """
import os
from sealwright.ids import uuid7
uuid7()
child = os.fork()
os.write(1, "".join(uuid7()[14:] + "\\n" for _ in range(3)).encode())
if child:
    os.waitpid(child, 0)
"""


def test_a_fork_makes_other_uuids_than_its_parent() -> None:
    """Random bits are drawn for many identifiers at once, and a copy of the process must not have them."""
    script = (sys.executable, "-c", FORK)
    made = subprocess.run(script, check=True, capture_output=True, text=True).stdout.split()  # noqa: S603 - fixed
    assert len(set(made)) == 6
