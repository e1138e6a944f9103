"""A simulation of one machine whose clock is set, on the real `Keyring` and `Timekeeper`. The store's clock is the machine's.

True time is a whole number of seconds. The clock shows true time and an error, which jumps: back and forth, by little and by much,
while the service runs, while it is down, and across a start of the machine. A frozen machine (a paused VM) does not count the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sealwright.issuer_settings import IssuerSettings, SeriesSettings
from sealwright.jose.jwk import key_id
from sealwright.keys import lifecycle
from sealwright.keys.issuer import Issuer
from sealwright.keys.keyring import Keyring
from sealwright.keys.lifecycle import Key, Limits
from sealwright.keys.ports import ClockRecord, IssuerState, StoreState
from sealwright.keys.settings import TimingSettings
from sealwright.keys.timekeeping import moved_clock, moved_key, moved_limits

from .history import EPOCH, new_key, seconds, span

NAME = "bar"
ERROR, SETTLE, EVENTS = 5, 30, 700
LIMITS = Limits(
    max_staleness=span(15),
    max_age=span(10),
    stale_if_error=span(5),
    max_lifetime=span(60),
    verifier_skew=span(2 * ERROR),
    max_serve_age=span(10**8),
)
LEAD, TAIL = seconds(LIMITS.lead(span(0))), seconds(LIMITS.tail)
SLACK = 2 * ERROR + 2
JUMPS = (3, 4, 6, 20, LEAD - 1, LEAD + 1, TAIL, 3600, 7200, 10**6)
TIMING = TimingSettings(max_clock_error=span(ERROR), verifier_skew=span(2 * ERROR), max_staleness=span(15))
SETTINGS = IssuerSettings(
    name=NAME,
    url="https://id.example.com/bar",
    series=[SeriesSettings(name="es256", algorithm="ES256", provider="aws")],
)


def _public(number: int) -> bytes:
    key = ec.derive_private_key(number + 2, ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


POOL = tuple(_public(n) for n in range(16))


@dataclass(frozen=True, slots=True)
class ClockFlaws:
    """Ways to break the rules of `keys/timekeeping.py`."""

    follows: bool = False
    forgets: bool = False
    moves_nothing: bool = False
    withdraws_early: bool = False
    never_settles: bool = False


@dataclass(slots=True)
class Machine:
    """A machine, its store and the service on it. See `sealwright.clock.Clock`."""

    rng: Random
    flaws: ClockFlaws = field(default_factory=ClockFlaws)
    true: int = 10**7
    error: int = 0
    stopwatch: int = 100
    boots: int = 0
    keys: tuple[Key, ...] = ()
    limits: Limits = LIMITS
    clocks: tuple[ClockRecord, ...] = ()
    moves: timedelta = timedelta()
    revision: int = 1
    read: int = 0
    set_at: int = 0
    known: int = 0
    keyring: Keyring = field(init=False)
    published: dict[str, tuple[int, int]] = field(default_factory=dict)
    retired: dict[str, tuple[int, int]] = field(default_factory=dict)
    signed: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    expires: dict[str, datetime] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._start()

    def now(self) -> datetime:
        return EPOCH + span(self.true + self.error)

    def elapsed(self) -> float:
        return float(self.stopwatch)

    def _start(self) -> None:
        timing = TIMING
        if self.flaws.follows:
            timing = TIMING.model_copy(update={"max_clock_error": timedelta(days=3000)})
        self.keyring = Keyring([SETTINGS], timing, self, str(self.boots))
        self.read = 0

    def run(self) -> Iterator[str]:
        """Let time pass. Yield what was broken."""
        for _ in range(EVENTS):
            self._happen()
            self.true += 1
            self.stopwatch += 1
            self._serve()
            yield from self._judge()

    # -- what happens to the machine --------------------------------------------------------------

    def _happen(self) -> None:
        match self.rng.randrange(60):
            case 0:
                self._set(self.error + self.rng.choice((-1, 1)) * self.rng.choice(JUMPS), "jump")
            case 1:
                self._set(0, "back")
            case 2:
                self._count("restart")
                self._start()
                self.set_at = self.true  # a new process waits for the whole settling time
            case 3:
                self._restart_machine()
            case 4:
                lost = self.rng.choice((2, 20, 200))
                self.true += lost
                self._set(self.error - self.rng.choice((0, lost)), "freeze")
            case _:
                pass

    def _set(self, error: int, what: str) -> None:
        """Set the clock. Right after a boot, one that is ahead of the service's own time cannot be known to be wrong."""
        self._count(what)
        young = self.keyring.timekeeper.anchor is None
        self.error, self.set_at = min(error, self.known) if young else error, self.true

    def _restart_machine(self) -> None:
        """Be off for a while."""
        self.known = seconds(self.keyring.now() - EPOCH) - self.true
        self._record()
        self.boots += 1
        self.stopwatch = self.rng.choice((1, 50))
        self.true += self.rng.choice((60, 600))
        self._start()
        self._set(self.error - self.rng.choice((0, 0, *JUMPS)), "boot")

    # -- what the service does --------------------------------------------------------------------

    def _serve(self) -> None:
        keyring, now = self.keyring, self.now()
        if self.read == self.revision:
            keyring.confirm(now, started=self.elapsed())
        else:
            keyring.install(self._state(now), started=self.elapsed())
            self.read = self.revision
        if self.true % 5 == 0:
            self._record()
        if keyring.timekeeper.jumped_for(self.elapsed()) >= SETTLE and not self.flaws.never_settles:
            self._settle()
        issuer = keyring.find(NAME)
        if issuer is not None and issuer.stale is None:
            self._work(issuer)

    def _record(self) -> None:
        """Write what is known of the clock, as a replica does every few seconds and when it ends."""
        boot, keeper = self.keyring.boot_id, self.keyring.timekeeper
        if keeper.anchor is not None and not self.flaws.forgets:
            old = next((c.zero for c in self.clocks if c.boot_id == boot), keeper.anchor)
            zero = keeper.anchor if keeper.jump is None else old
            record = ClockRecord(boot_id=boot, zero=zero, seen_time=self.keyring.now())
            self.clocks = (*(c for c in self.clocks if c.boot_id != boot), record)

    def _state(self, now: datetime) -> StoreState:
        row = IssuerState(
            name=NAME,
            revision=self.revision,
            limits=self.limits,
            first_publish_time=now if self.keys else None,
            keys=self.keys,
        )
        return StoreState(
            deployment_id="",
            revision=self.revision,
            time=now,
            issuers={NAME: row},
            clocks=self.clocks,
            moves=self.moves,
        )

    def _settle(self) -> None:
        self._count("settled")
        keeper = self.keyring.timekeeper
        if not self.flaws.moves_nothing:
            moved = [moved_key(k, keeper.shift, self.keyring.now()) for k in self.keys]
            if self.flaws.withdraws_early:
                moved = [
                    replace(new, withdraw_time=old.withdraw_time and old.withdraw_time + keeper.shift)
                    for new, old in zip(moved, self.keys, strict=True)
                ]
            else:
                self.limits = moved_limits(self.limits, keeper.shift)
            self.keys = tuple(moved)
        settled = keeper.settled(self.keyring.boot_id)
        others = (c for c in self.clocks if c.boot_id != settled.boot_id)
        self.clocks = (*(moved_clock(c, keeper.shift, self.keyring.now()) for c in others), settled)
        self.moves += keeper.shift
        self.revision += 1
        self._serve()

    def _work(self, issuer: Issuer) -> None:
        """Rotate as `lifecycle` says, but by chance; and sign."""
        line = lifecycle.queue(self.keys, "es256")
        if len(line) < lifecycle.QUEUE_LENGTH and len(self.keys) < len(POOL):
            number = len(self.keys) + 1
            uri = f"awskms:///{number}"
            key = replace(new_key("", "es256", number, issuer.now), uri=uri, public_key=POOL[number - 1])
            ready = issuer.now if not self.keys else issuer.now + issuer.limits.lead(span(0))
            key = replace(key, kid=key_id(key.public_key, uri), ready_time=ready)
            self.published[key.kid] = (self.true - (10**6 if not self.keys else 0), self.boots)
            self._commit((*self.keys, key))
        elif (
            self.rng.randrange(40) == 0 and len(line) == lifecycle.QUEUE_LENGTH and lifecycle.ready(line[1], issuer.now)
        ):
            self._count("rotation")
            self.retired[line[0].kid] = (self.true, self.boots)
            head = replace(line[0], retire_time=issuer.now, withdraw_time=issuer.now + issuer.limits.tail)
            self._commit(tuple(head if k.kid == head.kid else k for k in self.keys))
        for signer in issuer.possible_signers():
            self.signed.add(signer.kid)
            expires = issuer.now + LIMITS.max_lifetime
            self.expires[signer.kid] = max(self.expires.get(signer.kid, EPOCH), expires)

    def _commit(self, keys: tuple[Key, ...]) -> None:
        self.keys = keys
        self.revision += 1

    # -- what must hold ---------------------------------------------------------------------------

    def _judge(self) -> Iterator[str]:
        issuer = self.keyring.find(NAME)
        if issuer is None:
            return
        yield from self._judge_set(issuer)
        if issuer.stale is None:
            yield from self._judge_signers(issuer)
        elif self.true - self.set_at > SETTLE + 3:
            yield f"nothing is signed {self.true - self.set_at} s after the clock was set: {issuer.stale}"

    def _judge_set(self, issuer: Issuer) -> Iterator[str]:
        served = {k.kid for k in lifecycle.jwks(issuer.state.keys, issuer.now)}
        for kid in {k.kid for k in issuer.state.keys} - served - self.gone:
            self.gone.add(kid)
            self._count("withdrawn")
            if (passed := self._since(self.retired[kid])) < TAIL:
                yield f"a kid was dropped {passed} s after its last token, not {TAIL}"
            right = self.error == 0 and issuer.stale is None
            if right and EPOCH + span(self.true) < self.expires.get(kid, EPOCH) - span(SLACK):
                yield "a kid was dropped before its last token expired by a right clock"
        if self.gone & served:
            yield "a kid came back"

    def _judge_signers(self, issuer: Issuer) -> Iterator[str]:
        signing = {k.kid for k in issuer.possible_signers()}
        for kid in signing:
            if (passed := self._since(self.published[kid])) < LEAD:
                yield f"a key signed {passed} s after its publication, not {LEAD}"
        able = {k.kid for k in lifecycle.queue(issuer.state.keys, "es256")} & self.signed
        if able and not signing:
            yield "a key that has signed is not ready any more"

    def _since(self, event: tuple[int, int]) -> int:
        """Return how long ago something was, at most: two errors of `max_clock_error` are allowed in each run of the machine."""
        time, boots = event
        return self.true - time + SLACK * (1 + self.boots - boots)

    def _count(self, what: str) -> None:
        self.seen[what] = self.seen.get(what, 0) + 1


MUTANTS = {
    "a clock that jumps is followed": ClockFlaws(follows=True),
    "the anchor is forgotten at a restart": ClockFlaws(forgets=True),
    "a jump is settled without moving times": ClockFlaws(moves_nothing=True),
    "tail not longer after a clock went back": ClockFlaws(withdraws_early=True),
    "a jump is never settled": ClockFlaws(never_settles=True),
}


def clock_history(seed: int, flaws: ClockFlaws = ClockFlaws()) -> tuple[Machine, list[str]]:
    """Run the history of a seed, the same every time. Return what was broken."""
    machine = Machine(Random(seed), flaws)  # noqa: S311 - nothing is secret here
    return machine, list(machine.run())
