"""Many batches of a caller are no more than many calls: their requests share places, and too many of them are refused."""

from __future__ import annotations

import contextlib

import pytest

from sealwright.errors import OverloadedError
from sealwright.server.rpc.batches import MOST_REQUESTS, PLACES, Batches


def test_the_batches_of_a_caller_share_its_places_and_no_others() -> None:
    batches = Batches()
    with batches.under_way("a", 256) as first, batches.under_way("a", 1) as second, batches.under_way("b", 1) as other:
        assert first is second
        assert first is not other
        assert first._value == PLACES


def test_a_caller_with_too_many_requests_is_refused_and_no_other() -> None:
    batches = Batches()
    with contextlib.ExitStack() as stack:
        for _ in range(MOST_REQUESTS // 256):
            stack.enter_context(batches.under_way("a", 256))
        for _ in range(2):
            with pytest.raises(OverloadedError) as refused, batches.under_way("a", 1):
                pass
            assert refused.value.retry_after
        with batches.under_way("b", 256):
            pass
    with batches.under_way("a", 256):
        pass


def test_what_is_over_is_forgotten() -> None:
    batches = Batches()
    with pytest.raises(ZeroDivisionError), batches.under_way("a", 1), batches.under_way("a", 2):
        _ = 1 / 0
    assert not batches._callers
