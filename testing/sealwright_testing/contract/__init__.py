"""One contract for all providers, as pytest tests: they check on a provider and its backend what the service relies on.

A provider's test module names a harness and inherits the tests:

```python
@pytest.fixture(scope="module")
def harness() -> Iterator[Harness]:
    with running_backend() as backend:
        yield MyHarness(backend)


class TestMine(ProviderContract):
    pass
```

The harness declares what the backend cannot do. The tests try it nevertheless, and fail if it works. No test is skipped.
`python -m sealwright_testing.contract tests/…` runs the tests and prints provider x algorithm x outcome. It needs pytest,
pytest-asyncio, joserfc and jwcrypto; see docs/providers.md.
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
