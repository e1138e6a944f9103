"""I12: `sealwright serve` is killed at each step of a key's life, on SQLite.

Each such test has a file of its own, since files run side by side.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.living import LONGEST, Store, live


@pytest.mark.timeout(LONGEST)
def test_i12_whatever_happens_at_any_step_no_key_is_lost_left_over_or_used_early(tmp_path: Path) -> None:
    live(tmp_path, Store(f"sqlite:///{tmp_path}/state.db", None), kill=True)
