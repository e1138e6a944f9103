from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from faults.strangers import Door
from support.document import CREDENTIALS


@pytest.fixture(autouse=True)
def _aws_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
async def door() -> AsyncIterator[Callable[..., Door]]:
    doors: list[Door] = []

    def make(total: int = 100, per_address: int = 100, **more: Any) -> Door:
        doors.append(Door(total, per_address, **more))
        return doors[-1]

    yield make
    for one in doors:
        one.release.set()
        await one.connections.close()
