"""I12: `sealwright serve` is killed, or stopped for a while, at each step of a key's life, on SQLite."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.living import LONGEST, Store, live


@pytest.mark.timeout(LONGEST)
@pytest.mark.parametrize("kill", [True, False], ids=["killed", "stopped"])
def test_i12_whatever_happens_at_any_step_no_key_is_lost_left_over_or_used_early(tmp_path: Path, *, kill: bool) -> None:
    live(tmp_path, Store(f"sqlite:///{tmp_path}/state.db", None), kill=kill)
