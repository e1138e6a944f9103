"""One contract for all providers, as pytest tests: what the service relies on, tried on a provider and its backend.

A provider's test module names a harness and inherits the tests:

```python
@pytest.fixture(scope="module")
def harness() -> Iterator[Harness]:
    with running_backend() as backend:
        yield MyHarness(backend)


class TestMine(ProviderContract):
    pass
```

What the backend cannot do is declared by the harness, tried all the same, and fails where it works after all: nothing is
skipped. `python -m sealwright_testing.contract tests/…` runs the tests and prints provider x algorithm x outcome. Needs
pytest, pytest-asyncio and joserfc; see docs/providers.md.
"""

from .harness import RETRY_AFTER, CannotError, Fault, Harness, KeyState, Outcome
from .suite import ProviderContract

__all__ = [
    "RETRY_AFTER",
    "CannotError",
    "Fault",
    "Harness",
    "KeyState",
    "Outcome",
    "ProviderContract",
]
