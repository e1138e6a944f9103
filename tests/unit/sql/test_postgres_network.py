"""I12: PostgreSQL over TLS, with a password, behind PgBouncer, and with a standby that takes over."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from sealwright.keys.ports import Replica, StoreUnavailableError
from sealwright.sql.settings import StoreSettings
from sealwright.sql.store import SqlStore
from sealwright_testing.postgres import PostgresServer
from support.databases import postgres_server, upgraded
from support.document import tool_missing
from support.waiting import eventually, until

from .hearing import listening
from .rows import NOW, issuer_state, key, opened

SECRET = "hunter2"


def free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


@pytest.fixture
def over_tls(tmp_path: Path) -> Iterator[str]:
    """The beginning of a URL of a server that has a certificate for localhost, and wants a password."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    certificate = ca.issue_cert("localhost")
    port = free_port()
    with postgres_server("listen_addresses=127.0.0.1", port=port) as server:
        files = server.directory / "server.pem", server.directory / "server.key"
        certificate.cert_chain_pems[0].write_to_path(files[0])
        certificate.private_key_pem.write_to_path(files[1])
        for file in files:
            file.chmod(0o600)
            server.own(file)
        rules = server.directory / "data" / "pg_hba.conf"
        rules.write_text(f"hostssl all all 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        server.execute(f"CREATE ROLE sealwright LOGIN SUPERUSER PASSWORD '{SECRET}'")
        for name, value in (("ssl_cert_file", files[0]), ("ssl_key_file", files[1]), ("ssl", "on")):
            server.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        server.execute("SELECT pg_reload_conf(), pg_sleep(0.2)")
        yield f"postgresql://sealwright@localhost:{port}/postgres?sslmode=verify-full"


async def test_i12_the_database_proves_its_name_and_the_service_its_password(
    over_tls: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    for file, password in ((right, SECRET), (wrong, f"not-{SECRET}")):
        file.write_text(f"localhost:*:*:sealwright:{password}\n*:*:*:*:{password}\n")
        file.chmod(0o600)
    good = f"{over_tls}&sslrootcert={tmp_path}/ca.pem&passfile={right}"
    store = StoreSettings(url=good)
    async with opened(store) as one, opened(store) as other:
        assert await one.publish(await issuer_state(one), [key(1)], [])
        seen = await other._read(
            lambda c: c.exec_driver_sql("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").scalar_one()
        )
        assert seen is True
        async with listening(store) as heard:
            before = heard.times
            assert await one.publish(await issuer_state(one), [key(2)], [])
            await heard.more_than(before)
            over_tls = "SELECT bool_and(ssl), count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE query"
            query = f"{over_tls} = 'LISTEN sealwright'"
            assert (await other._read(lambda c: c.exec_driver_sql(query).one())) == (True, 1)
    for bad, reason in (
        (good.replace("ca.pem", "other.pem"), "certificate verify failed"),
        (good.replace("@localhost", "@127.0.0.1"), "does not match host name"),
        (good.replace(str(right), str(wrong)), "password authentication failed"),
        (good.replace(f"&passfile={right}", f"&passfile={tmp_path}/none"), "no password supplied"),
    ):
        with pytest.raises(StoreUnavailableError, match=reason) as caught:
            await SqlStore.open(StoreSettings(url=bad))
        async with listening(StoreSettings(url=bad), at_once=False) as heard:
            await until(lambda: re.search(f"refresh_interval only: .*{reason}", caplog.text))  # noqa: B023 - at once
            assert heard.times == 0
        assert SECRET not in f"{caught.value}{caplog.text}"


@contextmanager
def pgbouncer(server: PostgresServer) -> Iterator[str]:
    """Run a PgBouncer with transaction pooling over two connections, and yield the directory of its socket."""
    program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    if program is None:
        tool_missing("pgbouncer")
        return
    directory = server.directory / "bouncer"
    directory.mkdir()
    configuration = directory / "pgbouncer.ini"
    configuration.write_text(
        f"[databases]\npostgres = host={server.directory} port=5432 user=postgres pool_size=2\n"
        f"[pgbouncer]\npool_mode = transaction\nlisten_port = 6432\nunix_socket_dir = {directory}\n"
        "auth_type = any\nserver_round_robin = 1\n"
    )
    server.own(directory)
    server.own(configuration)
    user = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    with subprocess.Popen([program, "-q", str(configuration)], **user) as running:  # type: ignore[call-overload]  # noqa: S603
        try:
            eventually((directory / ".s.PGSQL.6432").exists)
            yield str(directory)
        finally:
            running.kill()
            running.wait()
            shutil.rmtree(directory)


@pytest.mark.usefixtures("no_pause")
async def test_i12_pgbouncer_with_transaction_pooling_may_be_in_between(
    postgresql: StoreSettings, server: PostgresServer
) -> None:
    upgraded(postgresql.url)
    with pgbouncer(server) as directory:
        through = StoreSettings(url=f"postgresql://postgres@/postgres?host={directory}&port=6432")
        stores = [await SqlStore.open(through) for _ in range(5)]

        async def use(number: int, store: SqlStore) -> list[str]:
            won = []
            beat = Replica(replica_id=f"replica-{number}", revision=1, start_time=NOW, seen_time=NOW)
            for ordinal in range(1, 21):
                state = await issuer_state(store)
                new = key(
                    ordinal, kid=f"{number}-{ordinal}", uri=f"awskms:///{number}-{ordinal}", ordinal=len(state.keys)
                )
                if await store.publish(state, [new], []):
                    won.append(new.kid)
                await store.heartbeat(beat)
            return won

        won = [kid for kids in await asyncio.gather(*(use(n, s) for n, s in enumerate(stores))) for kid in kids]
        state = await stores[0].read()
        assert sorted(k.kid for k in state.issuers["payments"].keys) == sorted(won)
        assert len(await stores[1].replicas(NOW)) == 5
        for store in stores:
            await store.aclose()


@pytest.mark.usefixtures("no_pause")
async def test_i12_a_standby_takes_over_and_is_not_read_before() -> None:
    with postgres_server() as primary, postgres_server(primary=primary) as standby:
        hosts = f"{standby.directory},{primary.directory}"
        both = StoreSettings(url=f"postgresql://postgres@/postgres?host={hosts}")
        async with opened(both) as store:
            assert await store.publish(await issuer_state(store), [key(1)], [])
            alone = SqlStore(both.dialect.open(standby.url("postgres")), both.dialect)
            with pytest.raises(StoreUnavailableError, match="read-only"):
                await alone.probe()
            await alone.aclose()
            end = primary.execute("SELECT pg_current_wal_lsn()")
            eventually(lambda: standby.execute(f"SELECT pg_last_wal_replay_lsn() >= '{end}'") == "t")
            primary.stop()
            with pytest.raises(StoreUnavailableError):
                await store.probe()
            standby.execute("SELECT pg_promote()")
            state = await issuer_state(store)
            assert [k.kid for k in state.keys] == ["kid-1"]
            assert await store.publish(state, [key(2)], [])
