"""F59: what a replica has claimed is given back when it ends, in whatever way."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from sealwright.keys.ports import Replica
from sealwright.sql.presence import Presence

from .rows import NOW, intent, issuer_state, key, opened

SLEEPER = """
import sys
from pathlib import Path
from sealwright.sql.presence import Presence
Presence(Path(sys.argv[1])).enter(sys.argv[2])
print("here", flush=True)
sys.stdin.read()
"""


def sleeper(directory: Path, replica_id: str) -> subprocess.Popen[bytes]:
    """Start another process that is a replica."""
    arguments = [sys.executable, "-c", SLEEPER, str(directory), replica_id]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - our own
    assert process.stdout is not None
    assert process.stdout.readline() == b"here\n"
    return process


async def test_f59_a_dead_replicas_claims_are_given_back_and_those_of_others_are_not(tmp_path: Path) -> None:
    directory = tmp_path / ".state.db-replicas"
    async with opened(tmp_path / "state.db") as store:
        await store.enter("me")
        processes = [await asyncio.to_thread(sleeper, directory, name) for name in ("dead", "alive")]
        try:
            state = await issuer_state(store)
            claims = [intent(n, claimed_by=name) for n, name in enumerate(("me", "dead", "alive", "unknown"))]
            await store.add_intents(state, claims)
            for name in ("me", "dead", "alive", "unknown"):
                await store.heartbeat(Replica(replica_id=name, revision=1, start_time=NOW, seen_time=NOW))
            assert await store.bury(NOW) == []
            processes[0].kill()
            processes[0].wait()
            before = await store.read()
            assert await store.bury(NOW) == ["dead"]
            assert await store.bury(NOW) == []
            after = await store.read()
            assert after.revision > before.revision
            expire = {i.claimed_by: i.claim_expire_time for i in after.issuers["payments"].intents}
            assert expire.pop("dead") == NOW
            assert set(expire.values()) == {intent(0).claim_expire_time}
            assert [r.replica_id for r in await store.replicas(NOW)] == ["alive", "me", "unknown"]
            assert sorted(p.stem for p in directory.iterdir()) == ["alive", "me"]
        finally:
            for process in processes:
                process.kill()
                process.communicate()
    assert [p.stem for p in directory.iterdir()] == ["alive"], "an orderly end leaves nothing"


async def test_f59_a_farewell_gives_claims_back_but_no_finished_key(tmp_path: Path) -> None:
    async with opened(tmp_path / "state.db") as store:
        state = await issuer_state(store)
        await store.add_intents(state, [intent(1), intent(2, claimed_by="other")])
        state = await issuer_state(store)
        done = intent(1, uri="awskms:///key-1", kid="kid-1", close_time=NOW)
        await store.publish(state, [key(1)], [done])
        await store.add_intents(await issuer_state(store), [intent(3)])
        revision = (await store.read()).revision
        await store.farewell("replica-1", NOW)
        intents = {i.intent_id: i.claim_expire_time for i in (await store.read()).issuers["payments"].intents}
        assert intents == {"intent-2": NOW + timedelta(seconds=90), "intent-3": NOW}
        again = (await store.read()).revision
        assert again > revision
        await store.farewell("replica-1", NOW)
        assert (await store.read()).revision == again


def test_f59_of_two_that_look_only_one_finds_the_dead(tmp_path: Path) -> None:
    process = sleeper(tmp_path / "locks", "dead")
    process.kill()
    process.communicate()
    first, second = Presence(tmp_path / "locks"), Presence(tmp_path / "locks")
    with first.dead() as found:
        assert found == ["dead"]
        with second.dead() as too_late:
            assert too_late == []
    with second.dead() as gone:
        assert gone == []


def test_f59_a_replica_that_nobody_could_bury_is_found_by_the_next(tmp_path: Path) -> None:
    process = sleeper(tmp_path / "locks", "dead")
    process.kill()
    process.communicate()
    presence = Presence(tmp_path / "locks")
    try:
        with presence.dead():
            raise OSError("the disk is full")  # noqa: TRY301 - the store, that is
    except OSError:
        pass
    with presence.dead() as found:
        assert found == ["dead"]
