"""`KeyStore` on a database: synchronous SQLAlchemy in one thread, off the path of a signature."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, Row, Table, delete, func, insert, select, text, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from sealwright.keys.lifecycle import Key, Limits
from sealwright.keys.ports import Intent, IssuerState, Replica, StoreState, StoreUnavailableError
from sealwright.sql import engine as engines
from sealwright.sql.engine import StoreMovedError
from sealwright.sql.settings import StoreSettings
from sealwright.sql.tables import deployment, intents, issuers, keys, replicas, token_counts

T = TypeVar("T")

log = logging.getLogger(__name__)

_FORGET_REPLICAS: Final = timedelta(days=1)
"""Longer than any `max_staleness` that makes sense: whoever was not seen for that long does not sign any more."""
_FORGET_COUNTS: Final = timedelta(days=1)
_MINUTE: Final = timedelta(minutes=1)
_LIMITS = tuple(Limits.__dataclass_fields__)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STORE_CLOCK = text("SELECT strftime('%s', 'now') || substr(strftime('%f', 'now'), 3)")


class StoreConflictError(StoreUnavailableError):
    """What was to be written contradicts what is there, such as a second key with the same kid. Nothing was written."""


class SqlStore:
    """The store. Open it with `open`; one object per process, used from one event loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sealwright-store")

    @classmethod
    async def open(cls, settings: StoreSettings) -> SqlStore:
        """Open the store, bringing an SQLite database up to date.

        Raises:
            ConfigurationError: It was made by a newer version, or is not ours.
            StoreUnavailableError: It cannot be opened.
        """
        store = cls(engines.open_engine(settings))
        try:
            await store._run(lambda: engines.upgrade(store._engine))
        except BaseException:
            await store.aclose()
            raise
        return store

    async def read(self) -> StoreState:
        """See `KeyStore.read`."""
        return await self._read(_read)

    async def probe(self) -> tuple[int, datetime]:
        """See `KeyStore.probe`."""

        def work(c: Connection) -> tuple[int, datetime]:
            return c.execute(select(deployment.c.revision)).scalar_one(), _store_time(c)

        return await self._read(work)

    async def ensure_issuer(self, name: str, limits: Limits) -> None:
        """See `KeyStore.ensure_issuer`."""

        def work(c: Connection) -> None:
            row = c.execute(select(issuers).where(issuers.c.name == name)).one_or_none()
            if row is None:
                c.execute(insert(issuers).values(name=name, revision=1, **_limit_values(limits)))
            elif (raised := _limits(row).raised_to(limits)) != _limits(row):
                c.execute(
                    update(issuers)
                    .where(issuers.c.name == name)
                    .values(revision=issuers.c.revision + 1, **_limit_values(raised)),
                )
            else:
                return
            _bump(c)

        await self._write(work)

    async def add_intents(self, state: IssuerState, new: Sequence[Intent]) -> bool:
        """See `KeyStore.add_intents`."""
        return await self._swap(state, lambda c: c.execute(insert(intents), [_values(i, intents) for i in new]))

    async def change_intent(self, state: IssuerState, intent: Intent) -> bool:
        """See `KeyStore.change_intent`."""
        return await self._swap(
            state,
            lambda c: c.execute(
                update(intents).where(intents.c.intent_id == intent.intent_id).values(_values(intent, intents)),
            ),
        )

    async def publish(self, state: IssuerState, new: Sequence[Key], done: Sequence[Intent]) -> bool:
        """See `KeyStore.publish`."""

        def work(c: Connection) -> None:
            if state.first_publish_time is None:
                first = min(k.publish_time for k in new)
                c.execute(update(issuers).where(issuers.c.name == state.name).values(first_publish_time=first))
            c.execute(insert(keys), [_values(k, keys) for k in new])
            for intent in done:
                c.execute(
                    update(intents).where(intents.c.intent_id == intent.intent_id).values(_values(intent, intents))
                )

        return await self._swap(state, work)

    async def change_keys(self, state: IssuerState, changed: Sequence[Key]) -> bool:
        """See `KeyStore.change_keys`."""

        def work(c: Connection) -> None:
            for key in changed:
                c.execute(update(keys).where(keys.c.kid == key.kid).values(_values(key, keys)))

        return await self._swap(state, work)

    async def heartbeat(self, replica: Replica, start_time: datetime) -> None:
        """See `KeyStore.heartbeat`. Rows of replicas that ended without a farewell are dropped on the way."""
        values = {"revision": replica.revision, "seen_time": replica.seen_time}
        statement = upsert(replicas).values(replica_id=replica.replica_id, start_time=start_time, **values)

        def work(c: Connection) -> None:
            c.execute(delete(replicas).where(replicas.c.seen_time < replica.seen_time - _FORGET_REPLICAS))
            c.execute(statement.on_conflict_do_update(index_elements=["replica_id"], set_=values))

        await self._write(work)

    async def replicas(self, since: datetime) -> Sequence[Replica]:
        """See `KeyStore.replicas`."""
        query = select(replicas).where(replicas.c.seen_time >= since).order_by(replicas.c.replica_id)

        def work(c: Connection) -> list[Replica]:
            return [
                Replica(replica_id=r.replica_id, revision=r.revision, seen_time=r.seen_time) for r in c.execute(query)
            ]

        return await self._read(work)

    async def farewell(self, replica_id: str) -> None:
        """See `KeyStore.farewell`."""
        await self._write(lambda c: c.execute(delete(replicas).where(replicas.c.replica_id == replica_id)))

    async def add_token_counts(self, counts: Mapping[tuple[str, int], int]) -> None:
        """See `KeyStore.add_token_counts`. Counts of tokens that expired long ago are dropped on the way."""

        def work(c: Connection) -> None:
            over = (_store_time(c) - _FORGET_COUNTS - _EPOCH) // _MINUTE
            c.execute(delete(token_counts).where(token_counts.c.expire_minute < over))
            for (kid, minute), tokens in counts.items():
                statement = upsert(token_counts).values(kid=kid, expire_minute=minute, tokens=tokens)
                c.execute(
                    statement.on_conflict_do_update(
                        index_elements=["kid", "expire_minute"],
                        set_={"tokens": token_counts.c.tokens + tokens},
                    ),
                )

        await self._write(work)

    async def live_tokens(self, kids: Sequence[str], minute: int) -> int:
        """See `KeyStore.live_tokens`. Counts of minutes that are over are dropped on the way."""

        def work(c: Connection) -> int:
            c.execute(delete(token_counts).where(token_counts.c.expire_minute < minute))
            total = select(func.coalesce(func.sum(token_counts.c.tokens), 0)).where(token_counts.c.kid.in_(kids))
            return int(c.execute(total).scalar_one())

        return await self._write(work)

    async def aclose(self) -> None:
        """Close the store. May be called twice."""
        await asyncio.to_thread(self._thread.shutdown)
        self._engine.dispose()

    async def _swap(self, state: IssuerState, work: Callable[[Connection], object]) -> bool:
        """Do the work in a transaction if the issuer is still at the revision that the work was computed from."""

        def guarded(c: Connection) -> bool:
            won = c.execute(
                update(issuers)
                .where(issuers.c.name == state.name, issuers.c.revision == state.revision)
                .values(revision=issuers.c.revision + 1),
            )
            if won.rowcount != 1:
                return False
            work(c)
            _bump(c)
            return True

        return await self._write(guarded)

    async def _read(self, work: Callable[[Connection], T]) -> T:
        def transaction() -> T:
            with self._engine.connect() as connection:
                reading = connection.execution_options(sealwright_read_only=True)
                with reading.begin():
                    try:
                        return work(reading)
                    except (ValueError, TypeError, LookupError, ArithmeticError) as e:
                        raise StoreUnavailableError("what the store holds cannot be read") from e

        return await self._run(transaction)

    async def _write(self, work: Callable[[Connection], T]) -> T:
        def transaction() -> T:
            with self._engine.begin() as connection:
                return work(connection)

        return await self._run(transaction)

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except IntegrityError as e:
            log.error("the store refuses a write that contradicts what it holds: %s", e.orig)  # noqa: TRY400
            raise StoreConflictError("the write contradicts what the store holds") from e
        except StoreMovedError as e:
            raise StoreUnavailableError(str(e)) from e
        except (SQLAlchemyError, RuntimeError) as e:
            raise StoreUnavailableError(
                f"the store cannot be used: {getattr(e, 'orig', None) or type(e).__name__}"
            ) from e


def _store_time(c: Connection) -> datetime:
    return datetime.fromtimestamp(float(c.execute(_STORE_CLOCK).scalar_one()), UTC)


def _bump(c: Connection) -> None:
    c.execute(update(deployment).values(revision=deployment.c.revision + 1))


def _read(c: Connection) -> StoreState:
    head = c.execute(select(deployment)).one()
    by_issuer: dict[str, tuple[list[Key], list[Intent]]] = {}
    states = list(c.execute(select(issuers)))
    for row in states:
        by_issuer[row.name] = ([], [])
    for row in c.execute(select(keys).order_by(keys.c.issuer, keys.c.series, keys.c.ordinal)):
        by_issuer[row.issuer][0].append(Key(**row._mapping))
    for row in c.execute(
        select(intents).where(intents.c.kid == "").order_by(intents.c.create_time, intents.c.intent_id)
    ):
        by_issuer[row.issuer][1].append(Intent(**row._mapping))
    return StoreState(
        deployment_id=head.deployment_id,
        revision=head.revision,
        time=_store_time(c),
        issuers={
            row.name: IssuerState(
                name=row.name,
                revision=row.revision,
                limits=_limits(row),
                first_publish_time=row.first_publish_time,
                keys=tuple(by_issuer[row.name][0]),
                intents=tuple(by_issuer[row.name][1]),
            )
            for row in states
        },
    )


def _limits(row: Row[Any]) -> Limits:
    return Limits(**{name: row._mapping[name] for name in _LIMITS})


def _limit_values(limits: Limits) -> dict[str, Any]:
    return {name: getattr(limits, name) for name in _LIMITS}


def _values(item: Key | Intent, table: Table) -> dict[str, Any]:
    """Return a row; the attributes of keys and intents are the columns of their tables."""
    return {column.name: getattr(item, column.name) for column in table.c}
