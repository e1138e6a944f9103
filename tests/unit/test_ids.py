from __future__ import annotations

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
