from __future__ import annotations

import pytest

from contract.example import ExampleHarness
from sealwright_testing.contract import ProviderContract


@pytest.fixture(scope="module")
def harness() -> ExampleHarness:
    return ExampleHarness()


class TestExample(ProviderContract):
    pass
