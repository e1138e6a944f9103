"""What `sealwright doctor` examines on this host: files and their rights, certificates, disks, listeners and the store."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

from sealwright.audit.witness_file import WitnessFile
from sealwright.cli.findings import Finding, ok, problem, warning
from sealwright.config import Config, problems_with_store
from sealwright.config.files import path_settings
from sealwright.errors import ConfigurationError
from sealwright.keys.ports import StoreState, StoreUnavailableError
from sealwright.keys.witness import WitnessUnreadableError, differences, objection, witness_of
from sealwright.server.addresses import Address, UnixSocket
from sealwright.server.certificates import now, read
from sealwright.sql.store import SqlStore

_SECRET_FILES: Final = ("private_key", "pin_file", "client_secret_file", "client_certificate_file", "credentials_file")
_LITTLE_BYTES: Final = 256 * 1024 * 1024
"""Less room than this on the disk of the store or of the audit is worth a warning."""


def rights_of_files(config: Config) -> Iterator[Finding]:
    """Examine who else may read files with secrets."""
    tables: list[tuple[str, Any]] = [(f"providers.{n}", p) for n, p in config.providers.items()]
    if config.server.tls is not None:
        tables.append(("tls", config.server.tls))
    for part, table in tables:
        for name, value in path_settings(table):
            if name not in _SECRET_FILES:
                continue
            with contextlib.suppress(OSError):
                mode = stat.S_IMODE(Path(value).stat().st_mode)
                if mode & (stat.S_IRWXO | stat.S_IWGRP):
                    yield warning(part, f"{name}: {value}: other users may read or change it (mode {mode:04o})")
                else:
                    yield ok(part, f"{name}: {value}: mode {mode:04o}")


def certificates(config: Config) -> Iterator[Finding]:
    """Examine the TLS files, and when the certificate expires."""
    if config.server.tls is None:
        yield ok("tls", "not configured")
        return
    try:
        credentials = read(config.server.tls, for_grpc=isinstance(config.server.grpc, Address))
    except ConfigurationError as e:
        yield from (problem("tls", text) for text in e.problems)
        return
    at = now()
    untimely, advice = credentials.untimely(at), credentials.advice(at)
    if untimely is not None:
        yield problem("tls", untimely)
    elif advice is not None:
        yield warning("tls", advice)
    else:
        yield ok("tls", f"the certificate is valid until {credentials.end.isoformat()}")
    for number, root in enumerate(credentials.roots, 1):
        if at > root.not_valid_after_utc:
            yield warning(
                "tls", f"client_ca: certificate number {number} expired at {root.not_valid_after_utc.isoformat()}"
            )


def disks(config: Config) -> Iterator[Finding]:
    """Write to the directories of the audit and of a store that is a file, and measure the room."""
    database = config.store.dialect.file_of(config.store.url)
    places = [("audit", Path(config.audit.path)), *([("store", database.parent)] if database else [])]
    for part, directory in places:
        there = directory
        while not there.exists() and there != there.parent:
            there = there.parent
        try:
            with tempfile.TemporaryFile(dir=there) as file:
                file.write(b"x")
                file.flush()
                os.fsync(file.fileno())
            found = os.statvfs(there)
        except OSError as e:
            yield problem(part, f"{there}: cannot be written: {e.strerror}")
            continue
        free = found.f_bavail * found.f_frsize
        text = f"{there}: {free // 1024**2} MB free"
        if not found.f_favail and found.f_files:
            yield problem(part, f"{there}: no free inodes")
        elif free < _LITTLE_BYTES:
            yield warning(part, text)
        else:
            yield ok(part, text)


def listeners(config: Config) -> Iterator[Finding]:
    """Try to bind each address. An address in use is normal while the service runs."""
    server = config.server
    for name, address in (("grpc", server.grpc), ("http", server.http), ("admin", server.admin)):
        part = f"server.{name}"
        if isinstance(address, UnixSocket):
            state = "in use" if _answers(address.path) else "free"
            yield ok(part, f"{address}: {state}")
            continue
        try:
            family, kind, _, _, where = socket.getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            with socket.socket(family, kind) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind(where)
        except OSError as e:
            if e.errno == errno.EADDRINUSE:
                yield ok(part, f"{address}: in use, as it is while the service runs")
            else:
                yield problem(part, f"{address}: {e.strerror or e}")
        else:
            yield ok(part, f"{address}: free")


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as tried:
        try:
            tried.connect(path)
        except OSError:
            return False
    return True


@contextlib.asynccontextmanager
async def opened_store(config: Config) -> AsyncIterator[StoreState | str | None]:
    """Read the store without changing it. Yield its state, why it cannot be read, or None if it does not exist yet."""
    if not await asyncio.to_thread(config.store.dialect.exists, config.store.url):
        yield None
        return
    try:
        store = await SqlStore.open(config.store, upgrade=False)
        async with contextlib.aclosing(store):
            state = await store.read()
    except StoreUnavailableError as e:
        yield str(e)
        return
    except ConfigurationError as e:
        yield "; ".join(e.problems)
        return
    yield state


def store(config: Config, state: StoreState | str | None) -> Iterator[Finding]:
    """Compare the store with its witness, with the clock of this machine and with the configuration."""
    try:
        witness = WitnessFile(Path(config.audit.path)).read()
    except WitnessUnreadableError as e:
        yield problem("store", f"the witness cannot be read: {e}")
        witness = None
    if isinstance(state, str):
        yield problem("store", state)
        return
    if state is None:
        if witness is not None:
            yield problem("store", "the store is gone, but keys have been published from here; see docs/store.md")
        else:
            yield ok("store", "does not exist yet; the first start creates it")
        return
    here = witness_of(state, "")
    reason = objection(witness, here) if witness is not None else None
    if witness is not None and reason is not None:
        yield problem("store", reason)
        yield from (problem("store", str(d)) for d in differences(witness.keys, here.keys))
    yield from (problem("store", text) for text in problems_with_store(config, state))
    off = abs((now() - state.time).total_seconds())
    if off > config.timing.max_clock_error.total_seconds():
        yield problem("clock", f"the clock of this machine differs by {off:.1f} s from the store's")
    else:
        yield ok("clock", f"within {max(off, 0.001):.3f} s of the store's")
    if reason is None:
        yield ok("store", f"revision {state.revision}, {sum(len(i.keys) for i in state.issuers.values())} keys")
    for name in state.issuers.keys() - {i.name for i in config.issuers}:
        yield warning(
            "store", f"issuer {name} is in the store, but not in the configuration: its keys stay, unpublished"
        )
    for name in state.blocked:
        yield warning("store", f"provider {name} is blocked since all of its keys were revoked")
