"""The contract: all of its tests in one class."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .case import Case, require
from .faults import FaultContract
from .harness import Harness
from .keys import KeyContract
from .lifetime import LifetimeContract
from .signatures import SignatureContract


@pytest.mark.asyncio
class ProviderContract(SignatureContract, KeyContract, FaultContract, LifetimeContract):
    """What every provider must do. For a subclass whose name begins with `Test`, in a class or module with a fixture `harness`."""

    @pytest.fixture
    def case(
        self, harness: Harness, record_property: Callable[[str, object], None], caplog: pytest.LogCaptureFixture
    ) -> Case:
        """Return what the tests have in common."""
        return Case(harness, record_property, caplog)

    async def test_declarations(self, harness: Harness) -> None:
        """Declarations are of outcomes and algorithms that there are, and say why."""
        require(not harness.misdeclared(), f"not declarations: {harness.misdeclared()}")
