"""C103: a key that its KMS refuses is looked up in the store, together with others, and not for long."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from sealwright.keys import revocation_check
from sealwright.keys.health import KeyHealth
from sealwright.keys.ports import StoreUnavailableError
from sealwright.keys.revocation_check import AGAIN_SECONDS, RevocationCheck

DISABLED, DENIED = "PROVIDER_KEY_DISABLED", "PROVIDER_ACCESS_DENIED"


class Replica:
    """A replica, with a clock and a store that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.reads = 0
        self.known: set[str] = set()
        self.revoked: set[str] = set()
        self.asked = asyncio.Event()
        self.ready = asyncio.Event()
        self.ready.set()
        self.error: Exception | None = None
        self.check = RevocationCheck(self, self.refresh, self)  # type: ignore[arg-type]

    def elapsed(self) -> float:
        return self.now

    def find(self, name: str) -> Any:
        return None if name == "removed" else self

    def trusted(self, kid: str) -> Any:
        return None if kid in self.known else kid

    async def refresh(self) -> None:
        self.reads += 1
        self.asked.set()
        found = set(self.revoked)
        await self.ready.wait()
        if self.error is not None:
            raise self.error
        self.known |= found

    async def refused(self, kid: str, reason: str = DISABLED) -> bool:
        """Tell whether a caller whose key is refused is to try again."""
        signer = key(kid)
        task = self.check.begin(signer, reason)
        assert task is self.check.pending(signer)
        if task is not None:
            await asyncio.wait([task])
        return self.check.gone(signer)


def key(kid: str, issuer: str = "payments") -> Any:
    return SimpleNamespace(kid=kid, provider="aws", record=SimpleNamespace(issuer=issuer))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation_check, "_GAP_SECONDS", 0.0)


async def test_c103_all_calls_with_a_key_that_was_revoked_elsewhere_are_to_be_repeated() -> None:
    replica = Replica()
    replica.revoked = {"a"}
    assert await asyncio.gather(*(replica.refused("a") for _ in range(5))) == [True] * 5
    assert await replica.refused("a")
    assert replica.reads == 1


async def test_c103_a_read_that_had_begun_before_the_refusal_does_not_count() -> None:
    replica = Replica()
    replica.ready.clear()
    first = asyncio.create_task(replica.refused("a"))
    await replica.asked.wait()
    replica.revoked = {"b"}
    second = asyncio.create_task(replica.refused("b"))
    await asyncio.sleep(0)
    replica.ready.set()
    assert (await first, await second, replica.reads) == (False, True, 2)


async def test_c103_many_keys_share_a_read() -> None:
    replica = Replica()
    replica.revoked = {str(n) for n in range(0, 1000, 2)}
    found = await asyncio.gather(*(replica.refused(str(n), DENIED) for n in range(1000)))
    assert found == [n % 2 == 0 for n in range(1000)]
    assert replica.reads <= 2


@pytest.mark.parametrize(
    ("later", "reason", "reads"), [(0.0, DISABLED, 1), (0.0, DENIED, 2), (AGAIN_SECONDS, DISABLED, 2)]
)
async def test_c103_a_key_that_is_not_revoked_is_looked_up_again_after_a_second_or_for_another_reason(
    later: float, reason: str, reads: int
) -> None:
    replica = Replica()
    assert not await replica.refused("a")
    replica.now += later
    replica.revoked = {"a"}
    assert await replica.refused("a", reason) == (reads == 2)
    assert replica.reads == reads


async def test_c103_nobody_waits_for_long_for_a_store_that_hangs_and_its_answer_still_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(revocation_check, "WAIT_SECONDS", 0.01)
    replica = Replica()
    replica.ready.clear()
    replica.revoked = {"a"}
    for round_ in range(4):
        assert not any(await asyncio.gather(*(replica.refused(kid) for kid in "abc")))
        assert not await replica.refused("a"), "it does not wait once more in the same second"
        replica.now = (round_ + 1) * AGAIN_SECONDS
    assert replica.reads == 1, "no second read while one is under way"
    replica.ready.set()
    assert await replica.refused("a")


@pytest.mark.parametrize("error", [StoreUnavailableError("down"), ValueError("a row that nobody can read")])
async def test_c103_a_read_that_fails_fails_no_call(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    replica = Replica()
    replica.revoked, replica.error = {"a"}, error
    assert not await replica.refused("a")
    loud = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert bool(loud) == isinstance(error, ValueError)
    replica.error = None
    replica.now += AGAIN_SECONDS
    assert await replica.refused("a")


async def test_c103_a_caller_who_leaves_ends_no_check_of_the_others() -> None:
    replica = Replica()
    replica.ready.clear()
    replica.revoked = {"a"}
    calls = [asyncio.create_task(replica.refused("a")) for _ in range(3)]
    await asyncio.sleep(0)
    calls[0].cancel()
    await asyncio.sleep(0)
    replica.ready.set()
    assert [await call for call in calls[1:]] == [True, True]


async def test_c103_checks_that_count_no_longer_are_forgotten() -> None:
    replica = Replica()
    for kid in "abc":
        await replica.refused(kid)
    replica.check.prune()
    assert len(replica.check._checks) == 3
    replica.now += AGAIN_SECONDS
    replica.check.prune()
    assert not replica.check._checks


async def test_c103_a_stop_ends_the_reads() -> None:
    replica = Replica()
    replica.ready.clear()
    first = asyncio.create_task(replica.refused("a"))
    await replica.asked.wait()
    second = asyncio.create_task(replica.refused("b"))
    await asyncio.sleep(0)
    replica.check.stop()
    assert (await first, await second, replica.reads) == (False, False, 1)


async def test_f24_a_key_that_signs_while_it_is_checked_is_in_no_trouble() -> None:
    replica = Replica()
    health = KeyHealth(replica, {}, replica, replica.refresh)  # type: ignore[arg-type]
    for signs in (True, False):
        replica.ready.clear()
        health.failed(key("a"), DISABLED)
        if signs:
            health.signed(key("a"))
        replica.ready.set()
        assert not await health.revoked([key("a")])
        assert health.calm == signs
        replica.now += AGAIN_SECONDS


def test_c103_a_key_of_an_issuer_that_the_configuration_lost_is_gone() -> None:
    assert Replica().check.gone(key("a", "removed"))
