"""I12, C103: a revocation and the replicas on other hosts that are stale, stopped, cut off or starting, on PostgreSQL."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sealwright.sql.store import SqlStore
from sealwright_testing.emulators.aws import AwsEmulator, KeyState
from sealwright_testing.postgres import PostgresServer
from support.databases import upgraded
from support.document import series
from support.hosts import TIMING, Cable, Host, configuration, eventually, started
from support.service import audit_records, running

CACHE_AGE = timedelta(seconds=3)
"""2 (A + E) + K."""
SERVE_AGE = timedelta(seconds=12)


@pytest.fixture
def cables(server: PostgresServer) -> Iterator[Callable[[], Cable]]:
    server.clear("postgres")
    upgraded(server.url("postgres"))
    made: list[Cable] = []

    def make() -> Cable:
        made.append(Cable(server.directory))
        return made[-1]

    yield make
    for cable in made:
        cable.close()


def host(directory: Path, name: str, kms: AwsEmulator, cable: Cable, *made: dict[str, Any]) -> Host:
    own, providers, timing = directory / name, {"aws": kms, "other": kms}, {**TIMING, "max_serve_age": "12s"}
    first = made or [series(min_lead="0s")]
    return Host(own, configuration(own, cable.url(), providers, *first, timing=timing))


def cache_time(done: Any) -> datetime:
    return done.verifier_cache_until.ToDatetime(UTC)  # type: ignore[no-any-return]


def said(done: Any, before: datetime, age: timedelta) -> bool:
    """Tell whether caches are said to hold a key for a time from a moment in the call on."""
    clocks = timedelta(milliseconds=500)
    return before + age - clocks <= cache_time(done) <= datetime.now(UTC) + age + clocks


def state(kms: AwsEmulator, key: Any) -> KeyState:
    return kms.keys[key.key_uri.rpartition("/")[2]].state


def test_i12_with_all_replicas_alive_nobody_is_stale(
    tmp_path: Path, kms: AwsEmulator, cables: Callable[[], Cable]
) -> None:
    hosts = [host(tmp_path, name, kms, cables()) for name in ("one", "two", "three")]
    with started(*hosts):
        key = hosts[0].active()
        before = datetime.now(UTC)
        plan = hosts[0].revoke(key, validate_only=True)
        assert said(plan, before, CACHE_AGE)
        assert key.kid in hosts[1].kids()
        before = datetime.now(UTC)
        done = hosts[0].revoke(key)
        assert list(done.stale_replicas) == []
        assert said(done, before, CACHE_AGE)
        for one in hosts:
            assert key.kid not in one.kids(), "nobody is stale"
            assert one.sign().kid != key.kid
        eventually(lambda: len({one.served()[1] for one in hosts}) == 1)  # a new standby is on its way
        assert state(kms, key) is KeyState.DISABLED


def test_i12_a_stopped_replica_is_named_until_it_has_read_the_revocation(
    tmp_path: Path, kms: AwsEmulator, cables: Callable[[], Cable]
) -> None:
    one, two = (host(tmp_path, name, kms, cables()) for name in ("one", "two"))
    with started(one, two):
        key = one.active()
        two.signal(signal.SIGSTOP)
        before = datetime.now(UTC)
        done = one.revoke(key)
        assert set(done.stale_replicas) == two.replica_ids()
        assert said(done, before, SERVE_AGE + CACHE_AGE)
        again = one.revoke(key)
        assert set(again.stale_replicas) == two.replica_ids(), "a repeated call says so too"
        assert said(again, before, SERVE_AGE + CACHE_AGE)
        two.signal(signal.SIGCONT)
        eventually(lambda: key.kid not in two.kids())
        assert two.sign().kid != key.kid
        eventually(lambda: not one.revoke(key).stale_replicas)
        last = one.revoke(key)
        assert cache_time(last) < cache_time(done), "nobody serves it any more"
    kids = {r["kid"] for r in audit_records(two.document, "sign") if r["outcome"] == "allowed"}
    assert key.kid not in kids


def test_i12_a_replica_that_is_cut_off_serves_the_key_no_longer_than_was_said(
    tmp_path: Path, kms: AwsEmulator, cables: Callable[[], Cable]
) -> None:
    far = cables()
    one, two = host(tmp_path, "one", kms, cables()), host(tmp_path, "two", kms, far)
    with started(one, two):
        key = one.active()
        before = two.served()
        far.cut()
        done = one.revoke(key)
        assert set(done.stale_replicas) == two.replica_ids()
        assert two.served() == before, "it cannot know"
        assert two.reason() in {"PROVIDER_KEY_DISABLED", "STATE_TOO_OLD"}, "the KMS stops it at once"
        eventually(lambda: two.reason() == "STATE_TOO_OLD")
        assert two.get("/readyz")[0] == 503
        eventually(lambda: two.served()[0] == 503)
        assert datetime.now(UTC) < cache_time(done)
        assert two.get("/readyz/jwks")[0] == 503
        assert two.get("/healthz")[0] == 200
        far.mend()
        eventually(lambda: two.reason() == "")
        eventually(lambda: two.served() == one.served())
        eventually(lambda: not one.revoke(key).stale_replicas)


def test_i12_a_killed_replica_counts_as_one_that_may_serve(
    tmp_path: Path, kms: AwsEmulator, cables: Callable[[], Cable]
) -> None:
    one, two = (host(tmp_path, name, kms, cables()) for name in ("one", "two"))
    with started(one, two):
        gone = two.replica_ids()
        two.signal(signal.SIGKILL)
        done = one.revoke(one.active())
        assert set(done.stale_replicas) == gone, "nobody on another host can know that it is dead"
        two.stop()
        two.start()
        key = one.active()
        eventually(lambda: set(one.revoke(key).stale_replicas) <= gone)


async def test_i12_a_replica_that_is_starting_is_named_or_has_read_the_revocation(
    tmp_path: Path, kms: AwsEmulator, cables: Callable[[], Cable], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (host(tmp_path, name, kms, cables()) for name in ("one", "two"))
    async with running(one.document) as first:
        kid = (await first.sign()).kid
        heartbeat = SqlStore.heartbeat
        named: list[list[str]] = []

        async def revoked_then(store: SqlStore, replica: Any, *more: Any) -> None:
            await heartbeat(store, replica, *more)
            if replica.replica_id != first.app.replica_id and not named:
                named.append([])
                named[0] += (await first.revoke(kid)).stale_replicas

        monkeypatch.setattr(SqlStore, "heartbeat", revoked_then)
        async with running(two.document, wait=False) as second:
            assert named == [[second.app.replica_id]]
            assert kid not in await second.published(), (
                "it has read again after it wrote its row, and before it listened"
            )


def test_i12_a_young_standby_signs_everywhere_and_the_last_key_leaves_a_set_without_it(
    tmp_path: Path, kms: AwsEmulator, cables: Callable[[], Cable]
) -> None:
    one, two = (host(tmp_path, name, kms, cables(), series(min_lead="1h")) for name in ("one", "two"))
    with started(one, two):
        one.revoke(one.active())  # the standby of the first set was ready with it
        eventually(lambda: len(one.kids()) == 2)
        done = one.revoke(one.active())
        assert any("a young standby signs at once" in w for w in done.warnings)
        young = one.active().kid
        eventually(lambda: two.reason() == "")
        assert {one.sign().kid, two.sign().kid} == {young}
        # Otherwise the next standby may be on its way, and is published when all others have left.
        eventually(lambda: len(one.kids()) == 2)
        kms.add_fault("error", operation="CreateKey", type="AccessDeniedException")
        for left in (1, 0):
            last = one.revoke(one.active())
            eventually(lambda n=left: len(two.kids()) <= n or n)  # type: ignore[misc]
            if any("no ES256 key is left" in w for w in last.warnings):
                break
        else:
            last = one.revoke(next(k for k in one.listed() if not k.HasField("revoke_time")))
        assert any("no ES256 key is left" in w for w in last.warnings)
        for each in (one, two):
            eventually(lambda h=each: h.served()[1] == b'{"keys":[]}')  # type: ignore[misc]
            assert each.served()[0] == 200, "verifiers that got 503 would go on trusting what they have"
            assert each.reason() == "NO_ACTIVE_KEY"
        kms.clear_faults()
        eventually(lambda: len(two.kids()) == 2)


def test_i12_a_signature_in_flight_on_another_host_is_not_released(
    tmp_path: Path, kms: AwsEmulator, cables: Callable[[], Cable]
) -> None:
    one, two = (host(tmp_path, name, kms, cables()) for name in ("one", "two"))
    with started(one, two):
        key = one.active()
        kms.add_fault("delay", operation="Sign", seconds=2.0, after=True)
        reasons: list[str] = []
        calls = [threading.Thread(target=lambda h=h: reasons.append(h.reason(timeout=8))) for h in (one, two)]
        before = kms.calls.get("Sign", 0)
        for call in calls:
            call.start()
        eventually(lambda: kms.calls.get("Sign", 0) >= before + 2)
        eventually(lambda: not one.revoke(key).stale_replicas)
        for call in calls:
            call.join()
        assert reasons == ["NO_ACTIVE_KEY", "NO_ACTIVE_KEY"]
        kms.clear_faults()
    for each in (one, two):
        outcomes = {r["outcome"] for r in audit_records(each.document, "sign") if r.get("kid") == key.kid}
        assert outcomes == {"withheld"}


def test_i12_all_keys_of_a_provider_go_in_one_commit_whatever_the_replicas_do(
    tmp_path: Path, kms: AwsEmulator, cables: Callable[[], Cable]
) -> None:
    far = cables()
    both = (series(name="first", min_lead="0s"), series(name="second", provider="other", min_lead="0s"))
    one = host(tmp_path, "one", kms, cables(), *both)
    two, three = host(tmp_path, "two", kms, cables(), *both), host(tmp_path, "three", kms, far, *both)
    with started(one, two, three):
        keys = [k for k in one.listed() if k.provider == "aws"]
        two.signal(signal.SIGSTOP)
        far.cut()
        done = one.revoke(provider="aws")
        assert set(done.stale_replicas) == two.replica_ids() | three.replica_ids()
        assert {k.kid for k in done.keys} == {k.kid for k in keys}
        assert len({k.revoke_time.ToNanoseconds() for k in done.keys}) == 1
        assert one.sign().kid == one.active("second").kid
        assert {state(kms, k) for k in keys} == {KeyState.DISABLED}
        time.sleep(3.5)  # longer than max_staleness
        two.signal(signal.SIGCONT)
        far.mend()
        for each in (two, three):
            eventually(lambda h=each: not h.kids() & {k.kid for k in keys})  # type: ignore[misc]
            eventually(lambda h=each: h.reason() == "")  # type: ignore[misc]
        eventually(lambda: len({h.served()[1] for h in (one, two, three)}) == 1)
        eventually(lambda: not one.revoke(provider="aws").stale_replicas)
    for each in (one, two, three):
        moment = min(k.revoke_time.ToNanoseconds() for k in done.keys) / 1e9
        late = [r for r in audit_records(each.document, "sign") if r["outcome"] == "allowed" and r["provider"] == "aws"]
        assert all(datetime.fromisoformat(r["time"]).timestamp() < moment + 3.5 for r in late)
