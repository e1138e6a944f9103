"""Transactions on the database: synchronous SQLAlchemy in one thread, off the path of a signature."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from sealwright.keys.ports import StoreUnavailableError
from sealwright.sql.dialect import Dialect
from sealwright.sql.statements import lock_store

T = TypeVar("T")

log = logging.getLogger(__name__)


class StoreConflictError(StoreUnavailableError):
    """The write contradicts what the store holds, for example with a second key of the same kid. Nothing was written."""


class Transactions:
    """Runs functions in transactions. It is used from one event loop.

    Every method raises `StoreUnavailableError` if the database cannot be used.
    """

    def __init__(self, engine: Engine, dialect: Dialect) -> None:
        self._engine = engine
        self._dialect = dialect
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sealwright-store")

    async def aclose(self) -> None:
        """Close the database. A second call does nothing."""
        await asyncio.to_thread(self._thread.shutdown)
        self._engine.dispose()

    async def _read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction that only reads, and sees one moment of the database."""

        def transaction() -> T:
            with self._begun(self._dialect.read_options) as connection:
                try:
                    return work(connection)
                except (ValueError, TypeError, LookupError, ArithmeticError) as e:
                    raise StoreUnavailableError("what the store holds cannot be read") from e

        return await self._run(transaction)

    async def _write(self, work: Callable[[Connection], T], *, settle: bool = False, alone: bool = True) -> T:
        """Run `work` in a transaction.

        Args:
            work: Writes.
            settle: Make the commit independent of files beside the database if the result is true.
            alone: One such transaction runs at a time. False: `work` writes only rows that no other process writes.
        """

        def transaction() -> T:
            with self._begun({}) as connection:
                if alone:
                    lock_store(connection)
                result = work(connection)
            if settle and result:
                self._dialect.settle(self._engine)
            return result

        return await self._run(transaction)

    @contextmanager
    def _begun(self, options: Mapping[str, Any]) -> Iterator[Connection]:
        """Begin a transaction, and commit it at the end of the block. A connection that has died since its last use is replaced."""
        try:
            open_parts, connection = self._begin(options)
        except DBAPIError as e:
            if not e.connection_invalidated:
                raise
            open_parts, connection = self._begin(options)
        with open_parts:
            yield connection

    def _begin(self, options: Mapping[str, Any]) -> tuple[ExitStack, Connection]:
        with ExitStack() as parts:
            connection = parts.enter_context(self._engine.connect()).execution_options(**options)
            parts.enter_context(connection.begin())
            return parts.pop_all(), connection

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except IntegrityError as e:
            log.error("the store refused a write that contradicts what it holds: %s", self._dialect.reason_of(e))  # noqa: TRY400
            raise StoreConflictError("the write contradicts what the store holds") from e
        except (SQLAlchemyError, RuntimeError, OSError) as e:
            reason = self._dialect.reason_of(e) if isinstance(e, DBAPIError) else type(e).__name__
            raise StoreUnavailableError(f"the store cannot be used: {reason}") from e
