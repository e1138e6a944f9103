"""`KeyStore` on a database. Nothing here depends on the database product; see `sql/dialect.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from sealwright.errors import ConfigurationError
from sealwright.keys.lifecycle import Key, Limits
from sealwright.keys.ports import (
    ClockRecord,
    Intent,
    IssuerState,
    Outcome,
    Replica,
    StoreState,
)
from sealwright.sql import migrate
from sealwright.sql.dialect import Dialect, Listener
from sealwright.sql.settings import StoreSettings
from sealwright.sql.statements import (
    MOVES,
    NEXT_REVISION,
    abandon_intents,
    block_provider,
    bump,
    change_intent,
    change_keys,
    limit_values,
    limits_of,
    move_times,
    moves_of,
    read_clocks,
    read_issuers,
    remove_replicas,
    require_usable,
    touch,
    values,
)
from sealwright.sql.tables import blocked_providers, clocks, deployment, intents, issuers, keys, replicas, token_counts
from sealwright.sql.transactions import Transactions
from sealwright.times import EPOCH


class SqlStore(Transactions):
    """The store. Open it with `open`. Each process has one, and uses it from one event loop."""

    def __init__(self, engine: Engine, dialect: Dialect, listener: Listener | None = None) -> None:
        super().__init__(engine, dialect)
        self._listener = listener
        self._presence = dialect.presence(str(engine.url))

    @classmethod
    async def open(cls, settings: StoreSettings, *, upgrade: bool = True, exactly: bool = False) -> SqlStore:
        """Open the store.

        Args:
            settings: Where it is.
            upgrade: Bring its schema up to date, and create the store if it is missing, where the database is ours alone.
                Otherwise it must exist and be up to date.
            exactly: Whether the schema must be ours even if a newer version lets us use its schema.

        Raises:
            ConfigurationError: A newer version made the store and does not let this one use it, or the database is another
                application's. Without `upgrade`: the store is missing or out of date.
            StoreUnavailableError: The store cannot be opened.
        """
        dialect = settings.dialect
        if not upgrade and not dialect.exists(settings.url):
            raise ConfigurationError(["store.url: there is no store"])
        store = cls(dialect.open(settings.url), dialect, dialect.listener(settings.url))
        try:
            if upgrade and dialect.upgrades_at_start:
                await store._run(lambda: migrate.upgrade(store._engine, dialect))
            if exactly or not (upgrade and dialect.upgrades_at_start):
                await store._run(lambda: migrate.require_current(store._engine, exactly=exactly))
        except BaseException:
            await store.aclose()
            raise
        return store

    async def read(self, known: StoreState | None = None) -> StoreState:
        """See `KeyStore.read`."""
        return await self._read(lambda c: self._state(c, known))

    async def probe(self) -> tuple[int, datetime]:
        """See `KeyStore.probe`."""
        revision, seconds = await self._run(lambda: self._dialect.probe(self._engine))
        return revision, datetime.fromtimestamp(seconds, UTC)

    async def listen(self, on_change: Callable[[], None]) -> None:
        """See `KeyStore.listen`."""
        if self._listener is not None:
            await self._listener.run(on_change)

    async def ensure_issuer(self, name: str, limits: Limits) -> None:
        """See `KeyStore.ensure_issuer`."""

        def work(c: Connection) -> None:
            row = c.execute(select(issuers).where(issuers.c.name == name).with_for_update()).one_or_none()
            if row is None:
                c.execute(insert(issuers).values(name=name, revision=NEXT_REVISION, **limit_values(limits)))
            elif (raised := limits_of(row).raised_to(limits)) != limits_of(row):
                c.execute(
                    update(issuers)
                    .where(issuers.c.name == name)
                    .values(revision=NEXT_REVISION, **limit_values(raised)),
                )
            else:
                return
            bump(c)

        await self._write(work)

    async def add_intents(self, state: IssuerState, new: Sequence[Intent]) -> bool:
        """See `KeyStore.add_intents`."""
        return await self._swap(state, lambda c: c.execute(insert(intents), [values(i, intents) for i in new]))

    async def unpublished(self, issuer: str, series: str, since: datetime) -> int:
        """See `KeyStore.unpublished`."""
        count = select(func.count()).where(
            intents.c.issuer == issuer,
            intents.c.series == series,
            intents.c.create_time >= since,
            intents.c.kid == "",  # OptionalText: the column holds "" for None
        )
        return await self._read(lambda c: int(c.execute(count).scalar_one()))

    async def begun(self, provider: str, since: datetime) -> int:
        """See `KeyStore.begun`."""
        mine = (intents.c.provider == provider) & (intents.c.create_time >= since)
        return await self._read(lambda c: int(c.execute(select(func.count()).where(mine)).scalar_one()))

    async def change_intent(self, state: IssuerState, intent: Intent) -> bool:
        """See `KeyStore.change_intent`."""
        return await self._swap(state, lambda c: change_intent(c, intent))

    async def publish(self, state: IssuerState, new: Sequence[Key], done: Sequence[Intent]) -> bool:
        """See `KeyStore.publish`."""

        def work(c: Connection) -> None:
            if state.first_publish_time is None:
                first = min(k.publish_time for k in new)
                c.execute(update(issuers).where(issuers.c.name == state.name).values(first_publish_time=first))
            c.execute(insert(keys), [values(k, keys) for k in new])
            for intent in done:
                change_intent(c, intent)

        return await self._swap(state, work, settle=True)

    async def change_keys(self, state: IssuerState, changed: Sequence[Key]) -> bool:
        """See `KeyStore.change_keys`."""
        return await self._swap(state, lambda c: change_keys(c, changed), settle=True)

    async def repair(
        self,
        state: StoreState,
        changed: Sequence[Key],
        published: Mapping[str, Limits],
        time: datetime,
        blocked: Sequence[str] = (),
    ) -> bool:
        """Change keys of any issuers in one transaction, unless anything has changed since the store was read.

        All open intents end. What became of their keys is not known; `sealwright keys orphans` lists them.

        Args:
            state: What was read.
            changed: The keys.
            published: Issuers that have had a JWK Set even if the store does not know it, with limits for those without a row.
            time: Their first publication, if the store has none.
            blocked: Providers at which no key may be created.
        """

        def work(c: Connection) -> bool:
            if c.execute(select(deployment.c.revision)).scalar_one() != state.revision:
                return False
            change_keys(c, changed)
            # Their keys may have been published in the part of history that is lost, so that none may be deleted.
            given_up = {"close_time": time, "outcome": Outcome.UNKNOWN.value}
            c.execute(update(intents).where(intents.c.close_time.is_(None)).values(given_up))
            for name, limits in published.items():
                if name not in state.issuers:
                    c.execute(insert(issuers).values(name=name, revision=1, **limit_values(limits)))
                unknown = (issuers.c.name == name) & issuers.c.first_publish_time.is_(None)
                c.execute(update(issuers).where(unknown).values(first_publish_time=time))
            for provider in blocked:
                block_provider(c, provider, state)
            touched = {k.issuer for k in changed} | set(published) | {n for n, i in state.issuers.items() if i.intents}
            touch(c, touched)
            return True

        return await self._write(work, settle=True)

    async def revoke_all(self, provider: str, decide: Callable[[StoreState], Sequence[Key]]) -> StoreState:
        """See `KeyStore.revoke_all`."""

        def work(c: Connection) -> StoreState:
            c.execute(select(issuers.c.name).order_by(issuers.c.name).with_for_update())
            state = self._state(c, None)
            changed = decide(state)
            change_keys(c, changed)
            block_provider(c, provider, state)
            touch(c, {k.issuer for k in changed} | abandon_intents(c, provider, state.time))
            return state

        return await self._write(work, settle=True)

    async def unblock(self, provider: str) -> bool:
        """See `KeyStore.unblock`."""

        def work(c: Connection) -> bool:
            gone = c.execute(delete(blocked_providers).where(blocked_providers.c.provider == provider)).rowcount
            if gone:
                bump(c)
            return bool(gone)

        return await self._write(work)

    async def heartbeat(self, replica: Replica, clock: ClockRecord | None = None) -> None:
        """See `KeyStore.heartbeat`."""
        changes = {"revision": replica.revision, "seen_time": replica.seen_time}
        row = values(replica, replicas)

        def work(c: Connection) -> None:
            c.execute(self._dialect.upsert(replicas, row, changes))
            if clock is not None:
                self._keep_clock(c, clock)

        await self._write(work, alone=False)

    async def keep_urls(self, urls: Mapping[str, str]) -> None:
        """See `KeyStore.keep_urls`."""

        def work(c: Connection) -> None:
            for name, url in urls.items():
                c.execute(update(issuers).where(issuers.c.name == name, issuers.c.url.is_(None)).values(url=url))

        await self._write(work)

    async def settle_clock(self, state: StoreState, jump: timedelta, clock: ClockRecord) -> bool:
        """See `KeyStore.settle_clock`."""

        def work(c: Connection) -> bool:
            if c.execute(select(deployment.c.revision)).scalar_one() != state.revision:
                return False
            if all(known.boot_id != MOVES for known in read_clocks(c)):
                c.execute(insert(clocks).values(boot_id=MOVES, zero=EPOCH, seen_time=EPOCH))
            move_times(c, state, jump, clock.seen_time - jump)
            self._keep_clock(c, replace(clock, moves=state.moves + jump))
            return True

        return await self._write(work, settle=True)

    def _keep_clock(self, c: Connection, clock: ClockRecord) -> None:
        c.execute(select(clocks).where(clocks.c.boot_id == MOVES).with_for_update(read=True)).all()
        if moves_of(read_clocks(c)) != clock.moves:
            return  # It goes by a time from before a move, and will notice at its next read.
        row = {"boot_id": clock.boot_id, "zero": clock.zero, "seen_time": clock.seen_time}
        c.execute(self._dialect.upsert(clocks, row, row if clock.sure else {"seen_time": clock.seen_time}))

    async def replicas(self, since: datetime) -> Sequence[Replica]:
        """See `KeyStore.replicas`."""
        query = select(replicas).where(replicas.c.seen_time >= since).order_by(replicas.c.replica_id)

        return await self._read(lambda c: [Replica(**row._mapping) for row in c.execute(query)])

    async def enter(self, replica_id: str) -> None:
        """See `KeyStore.enter`."""
        presence = self._presence
        if presence is not None:
            await self._run(lambda: presence.enter(replica_id))

    async def bury(self, now: datetime) -> Sequence[str]:
        """See `KeyStore.bury`."""
        presence = self._presence
        if presence is None:
            return []

        def transaction() -> list[str]:
            with presence.dead() as dead:
                if dead:
                    with self._engine.begin() as connection:
                        remove_replicas(connection, dead, now)
                return dead

        return await self._run(transaction)

    async def farewell(self, replica_id: str, now: datetime | None = None, clock: ClockRecord | None = None) -> None:
        """See `KeyStore.farewell`."""

        def work(c: Connection) -> None:
            remove_replicas(c, [replica_id], now or self._time(c))
            if clock is not None:
                self._keep_clock(c, clock)

        await self._write(work)

    async def add_token_counts(self, counts: Mapping[tuple[str, int], int]) -> None:
        """See `KeyStore.add_token_counts`."""

        def work(c: Connection) -> None:
            for (kid, minute), tokens in counts.items():
                row = {"kid": kid, "expire_minute": minute, "tokens": tokens}
                c.execute(self._dialect.upsert(token_counts, row, {"tokens": token_counts.c.tokens + tokens}))

        await self._write(work)

    async def live_tokens(self, kids: Sequence[str], minute: int) -> int:
        """See `KeyStore.live_tokens`."""
        total = select(func.coalesce(func.sum(token_counts.c.tokens), 0)).where(
            token_counts.c.kid.in_(kids), token_counts.c.expire_minute >= minute
        )
        return await self._read(lambda c: int(c.execute(total).scalar_one()))

    async def prune(self, *, replicas_seen_before: datetime, tokens_expired_before: int) -> None:
        """See `KeyStore.prune`."""

        def work(c: Connection) -> None:
            c.execute(delete(replicas).where(replicas.c.seen_time < replicas_seen_before))
            c.execute(delete(token_counts).where(token_counts.c.expire_minute < tokens_expired_before))

        await self._write(work)

    async def aclose(self) -> None:
        """Close the store. A second call does nothing."""
        await super().aclose()
        if self._presence is not None:
            self._presence.leave()

    async def _swap(self, state: IssuerState, work: Callable[[Connection], object], *, settle: bool = False) -> bool:
        """Run `work` in a transaction, but only if the issuer is still at the revision that the work was computed from."""

        def guarded(c: Connection) -> bool:
            won = c.execute(
                update(issuers)
                .where(issuers.c.name == state.name, issuers.c.revision == state.revision)
                .values(revision=NEXT_REVISION),
            )
            if won.rowcount != 1:
                return False
            work(c)
            bump(c)
            return True

        return await self._write(guarded, settle=settle)

    def _state(self, c: Connection, known: StoreState | None) -> StoreState:
        head = c.execute(select(deployment)).one()
        require_usable(head.oldest_schema)
        found: dict[str, IssuerState] = {}
        # A store that has gone back was restored, and what is known of it may be of another history.
        if known is not None and known.deployment_id == head.deployment_id and known.revision <= head.revision:
            found = read_issuers(c, known.revision)
        # A change of no issuer is rare: of a blocked provider, or by hand.
        issuers = {**known.issuers, **found} if known is not None and found else read_issuers(c, None)
        seen = read_clocks(c)
        return StoreState(
            deployment_id=head.deployment_id,
            revision=head.revision,
            blocked={row.provider: row.block_time for row in c.execute(select(blocked_providers))},
            time=self._time(c),  # after the rows, so that no row is newer
            clocks=tuple(known for known in seen if known.boot_id != MOVES),
            moves=moves_of(seen),
            issuers=issuers,
        )

    def _time(self, c: Connection) -> datetime:
        return datetime.fromtimestamp(float(c.execute(self._dialect.clock).scalar_one()), UTC)
