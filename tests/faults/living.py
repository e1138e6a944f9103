"""Replicas that are killed, or stopped for a while, at each step of a key's life, while others go on.

A run finds the points by going through all of a key's life, again and again. Something happens at each point that it finds, also at
those of recoveries, and it ends when something has happened at all that every run must have.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from faults.crashing import INTENT
from faults.stepped import Fleet, Verifier, revoke, rotate
from sealwright_testing.emulators.aws import AwsEmulator, KeyState, ThreadedAwsEmulator
from sealwright_testing.postgres import PostgresServer
from support.document import CREDENTIALS, document, issuer, series
from support.processes import BIN, pause, process, write_config
from support.service import audit_records

REPLICAS = 3
ISSUERS = [f"i{n}" for n in range(3)]
BY_HAND = ISSUERS[0]
STOLEN = "stolen"
SECONDS = 1200
"""How long a run may take to reach every point. It takes about 100 on two quiet cores, and much longer on busy ones."""
LONGEST = SECONDS + 160
"""How long a run may take as a whole."""
PAUSE_SECONDS = 2.5
"""How long a process stays stopped. Longer than its claims, and than max_staleness, so that it must not sign when it goes on."""
TIMING = {
    "max_clock_error": "500ms",
    "verifier_skew": "1s",
    "max_staleness": "1s",
    "max_serve_age": "1s",
    "refresh_interval": "100ms",
    "verifier_refresh": "0s",
}
LEAD, TAIL = 4_000_000, 5_000_000
"""S + 2 (A + E) + K, and S + L + 2 K, with TIMING and `quick`, in microseconds."""
REVOCATION_SECONDS = 1.5 * LEAD / 1e6
"""The pause after revocations, in which a standby becomes ready."""
TIMES = ("publish_time", "ready_time", "retire_time", "withdraw_time", "destroy_time")
RECOVERIES = {"before intent uri": ("find", "outcome"), "before KMS create": ("find", "abandon", "close")}
"""Where a process is killed once more as long as there are points that others only reach after it, by words in their names."""
LIFE = {
    "record intents": "create",
    "KMS create": "create",
    "intent uri": "create",
    "KMS sign_patiently": "create",
    "intent made_time": "create",
    "publish": "publish",
    "keys ready_time": "ready",
    "keys retire_time": "retire",
    "keys destroy_due_time+withdraw_time": "withdraw",
    "keys revoke_time": "revoke",
    "KMS disable": "disable",
    "keys disable_time": "disable",
    "KMS schedule_deletion": "destroy",
    "keys destroy_time": "destroy",
}
"""Steps that a run must have gone through, whatever else it finds."""
RECOVERY = ("intent claim_expire_time", "KMS find", "intent made_time+outcome+uri", "intent abandon_time")
"""Steps of those who take over. Others are too rare to wait for, but something happens there too."""


def quick(name: str, rotation_period: str = "1s") -> dict[str, Any]:
    """Return an issuer whose keys live for seconds."""
    one = series(min_lead="0s", rotation_period=rotation_period, destroy_after="0s", max_unpublished_keys=1000)
    times = {"max_lifetime": "2s", "default_lifetime": "2s", "jwks": {"max_age": "1s", "stale_if_error": "0s"}}
    return issuer(name, series=[one], **times)


class Store:
    """The store of a run, for questions that go past the service."""

    def __init__(self, url: str, server: PostgresServer | None) -> None:
        self.url = url
        self._server = server

    def rows(self, query: str) -> list[list[str]]:
        """Return what a query finds, as texts."""
        if self._server is not None:
            lines = self._server.execute(query).splitlines()
            return [line.split("|") for line in lines]
        with contextlib.closing(sqlite3.connect(self.url.removeprefix("sqlite:///"), timeout=10)) as store:
            return [[str(value) for value in row] for row in store.execute(query)]


class Misfortune:
    """What happens at the points of a run: each process that reaches one at which nothing has happened yet is killed or stopped."""

    def __init__(self, *, kill: bool) -> None:
        self.fleet: Fleet | None = None
        self._kill = kill
        self._lock = threading.Lock()

    def __call__(self, pid: int, point: str) -> None:
        """Kill or stop a process that is at a point, unless no other could go on."""
        fleet = self.fleet
        if fleet is None:
            return
        with self._lock:
            me = fleet.of(pid)
            others = [r for r in fleet.up() if r is not me]
            wanted = fleet.keeper.todo | missing(fleet)
            again = any(word in p for word in RECOVERIES.get(point, ()) for p in wanted)
            if me is None or not others or (point in fleet.keeper.done and not again):
                return
            fleet.keeper.done.append(point)
            me.stopped = True
            if self._kill:
                os.kill(pid, signal.SIGKILL)
            else:
                pause(pid)
        if not self._kill:
            time.sleep(PAUSE_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            me.stopped = False


def configurations(directory: Path, url: str, kms: AwsEmulator) -> list[str]:
    """Return a configuration for each replica, each with an audit of its own, and one for the time after all misfortunes.

    With the last one the KMS may take its time, and keys do not rotate: on a busy machine, too, everything comes to an end.
    """
    found = []
    periods = {**{f"replica{n}": "1s" for n in range(REPLICAS)}, "afterwards": "1h"}
    for name, period in periods.items():
        own = directory / name
        own.mkdir()
        issuers = [quick(i, period) for i in (*ISSUERS, STOLEN)]
        config = document(own, kms.endpoint, *issuers, timing=TIMING, store={"url": url})
        if period == "1s":
            config["providers"]["aws"]["manage_timeout"] = "700ms"
        found.append(write_config(own, config))
    return found


def orphans(config: str) -> tuple[int, str]:
    done = subprocess.run(  # noqa: S603 - our own program
        [str(BIN / "sealwright"), "keys", "orphans", "--config", config],
        env={**os.environ, **CREDENTIALS},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


def without_intent(store: Store, kms: AwsEmulator) -> set[str]:
    """Return the intents of keys of the KMS that the store does not have. A key is looked at before the store is."""
    tagged = {k.tags[INTENT] for k in list(kms.keys.values())}
    return tagged - {row[0] for row in store.rows("SELECT intent_id FROM intents")}


def live(directory: Path, store: Store, *, kill: bool) -> None:
    """Let replicas live through all of a key's life, with a misfortune at each point, and check that nobody noticed.

    Args:
        directory: For their files.
        store: Their store.
        kill: Whether they are killed, or stopped for a while.
    """
    misfortune = Misfortune(kill=kill)
    with ThreadedAwsEmulator() as kms:
        *configs, afterwards = configurations(directory, store.url, kms)
        fleet = Fleet(directory, configs, misfortune)
        verifier = Verifier(fleet, ISSUERS, max_age=1.0)
        try:
            fleet.wait(lambda: len(fleet.up()) == REPLICAS, "not all replicas have started")
            with verifier.watching():
                misfortune.fleet = fleet
                go_through(fleet, store, kms, verifier)
                misfortune.fleet = None
                fleet.wait(lambda: len(fleet.up()) == REPLICAS, "not all replicas are back")
                time.sleep(3)
        finally:
            problems = fleet.close()
        with process(directory, "sealwright", "serve", "--config", afterwards):
            settled(store, kms, afterwards)
    assert problems == []
    assert verifier.refused == []
    assert verifier.verified > 100, verifier.failed
    check_rows(store, verifier)
    check_signatures(directory, store)


def go_through(fleet: Fleet, store: Store, kms: AwsEmulator, verifier: Verifier) -> None:
    """Wait until something has happened at every point that is always there, and for a while at all others that turn up."""
    end, quiet, revoked = time.monotonic() + SECONDS, 0.0, 0.0
    while True:
        time.sleep(1)
        assert without_intent(store, kms) == set()
        assert verifier.refused == []
        if missing(fleet):
            quiet = time.monotonic()
        if time.monotonic() - quiet > 5:
            return
        assert time.monotonic() < end, f"never there: {fleet.keeper.todo}; {missing(fleet)}"
        if fleet.up():
            rotate(fleet.up()[0], BY_HAND)  # as soon as the lead is over, where a rotation on schedule waits for longer
        wanted = any("revoke_time" in p or "disable" in p for p in missing(fleet))
        if wanted and time.monotonic() - revoked > REVOCATION_SECONDS:
            revoked = time.monotonic()
            for replica in fleet.up():  # The first time with a standby that is ready, and then without one.
                revoke(replica, STOLEN)


def missing(fleet: Fleet) -> set[str]:
    """Return the steps of a key's life at which nothing has happened yet."""
    steps = [*LIFE, *RECOVERY]
    wanted = {f"{when} {step}" for step in steps for when in ("before", "after")}
    wanted |= {f"before the commit of {step}" for step in steps if not step.startswith("KMS")}
    return wanted - set(fleet.keeper.done)


def settled(store: Store, kms: AwsEmulator, config: str) -> None:
    """Wait until the KMS has no key that the store does not know, and check that a search for orphans says so."""
    end = time.monotonic() + 180
    while True:
        alive = {f"awskms:///{k.arn}" for k in list(kms.keys.values()) if k.state is not KeyState.PENDING_DELETION}
        uris = {row[0] for row in store.rows("SELECT uri FROM keys")}
        uris |= {row[0] for row in store.rows("SELECT uri FROM intents WHERE close_time IS NULL AND kid = ''")}
        _, text = orphans(config)
        listed = [line for line in text.splitlines() if line.startswith("aws: ")]
        if not listed and not alive - uris:  # keys that are just being created are not orphans for long
            break
        assert time.monotonic() < end, (text, alive - uris)
        time.sleep(0.5)
    assert without_intent(store, kms) == set()
    done = {row[0]: row[1:] for row in store.rows("SELECT uri, disable_time, destroy_time FROM keys")}
    states = {f"awskms:///{k.arn}": k.state for k in list(kms.keys.values())}  # after the rows
    for uri, (disabled, destroyed) in done.items():
        if destroyed not in {"", "None"}:
            assert states[uri] is KeyState.PENDING_DELETION, "the row says more than the KMS has done"
        elif disabled not in {"", "None"}:
            assert states[uri] is not KeyState.ENABLED, "the row says more than the KMS has done"


def check_rows(store: Store, verifier: Verifier) -> None:
    """Check that no kid was lost, and that each key has its times in their order."""
    query = f"SELECT kid, issuer, {', '.join(TIMES)} FROM keys"  # noqa: S608 - our own names
    rows = store.rows(query)
    for name, kids in verifier.kids.items():
        assert kids <= {row[0] for row in rows if row[1] == name}
    first = {row[0]: int(row[1]) for row in store.rows("SELECT name, first_publish_time FROM issuers")}
    for kid, name, *texts in rows:
        times = dict(zip(TIMES, (None if t in {"", "None"} else int(t) for t in texts), strict=True))
        known = [t for t in times.values() if t is not None]
        assert known == sorted(known), kid
        published, ready, retired, withdrawn, _ = times.values()
        if name != STOLEN and ready and published and published > first[name]:
            assert ready - published >= LEAD, kid
        assert not (retired and withdrawn) or withdrawn - retired >= TAIL, kid
    assert any(row[-1] not in {"", "None"} for row in rows)


def check_signatures(directory: Path, store: Store) -> None:
    """Check that every token was signed by a key that was ready, and not retired or revoked when its replica had last read."""
    times = {r[0]: r[1:] for r in store.rows("SELECT kid, ready_time, revoke_time FROM keys")}
    signed = 0
    for number in range(REPLICAS):
        for record in audit_records({"audit": {"path": f"{directory}/replica{number}/audit"}}, "sign"):
            if record["outcome"] != "allowed":
                continue
            at = datetime.fromisoformat(record["time"]).astimezone(UTC).timestamp() * 1e6
            ready, revoked = times[record["kid"]]
            # A replica's idea of the store's clock may differ by half of what it tolerates.
            assert int(ready) <= at + 0.5e6, record
            assert revoked in {"", "None"} or at <= int(revoked) + 1.5e6, record
            signed += 1
    assert signed > 100
