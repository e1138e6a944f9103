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
    """What every provider must do. Inherit from it in a class whose name begins with `Test`, and define a fixture `harness`."""

    @pytest.fixture
    def case(
        self, harness: Harness, record_property: Callable[[str, object], None], caplog: pytest.LogCaptureFixture
    ) -> Case:
        """Return the helpers of a test."""
        return Case(harness, record_property, caplog)

    async def test_declarations(self, harness: Harness) -> None:
        """Declarations name existing outcomes and algorithms, and give a reason."""
        require(not harness.misdeclared(), f"invalid declarations: {harness.misdeclared()}")
