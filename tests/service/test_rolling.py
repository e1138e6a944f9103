"""I12: a rolling deployment with two configurations, and with two versions of the code, as processes on PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import sealwright
from sealwright.v1.keys_pb2 import RevokeKeysRequest, RotateKeysRequest
from sealwright.v1.keys_pb2_grpc import KeyServiceStub
from sealwright.v1.signing_pb2 import SignJwtRequest, SignJwtResponse
from sealwright.v1.signing_pb2_grpc import SigningServiceStub
from sealwright_testing.postgres import PostgresServer
from support.document import document, issuer
from support.processes import BIN, Process, process, write_config
from support.waiting import eventually

PAYMENTS = "/payments/.well-known/jwks.json"
ADDS = """
    op.add_column("deployment", sa.Column("motto", sa.String(9)))
    op.add_column("intents", sa.Column("colour", sa.String(9), nullable=False, server_default="green"))
    op.create_table("news", sa.Column("name", sa.String(9), primary_key=True))
"""
BREAKS = """
    op.execute("UPDATE deployment SET oldest_schema = '{number}', revision = revision + 1")
"""


@pytest.fixture
def kms(tmp_path: Path) -> Iterator[str]:
    with process(tmp_path, "sealwright-emulator", "aws", "--port", "0") as running:
        yield running.ready["endpoint"]


def config_of(directory: Path, url: str, kms: str, host: str, *issuers: dict[str, Any], **timing: str) -> str:
    """Write the configuration of a host."""
    here = directory / host
    here.mkdir(exist_ok=True)
    timing = {"refresh_interval": "100ms", **timing}
    return write_config(here, document(here, kms, *issuers, store={"url": url}, timing=timing))


@contextlib.contextmanager
def serving(directory: Path, config: str, code: Path | None = None, *, wait: bool = True) -> Iterator[Process]:
    with process(directory, "sealwright", "serve", "--config", config, env=environment(code), wait=wait) as one:
        yield one


def environment(code: Path | None) -> dict[str, str]:
    return {} if code is None else {"PYTHONPATH": str(code)}


def run(config: str, *words: str, code: Path | None = None) -> tuple[int, Any]:
    done = subprocess.run(  # noqa: S603 - our own program
        [str(BIN / "sealwright"), *words, "--config", config, "--output", "json"],
        env={**os.environ, **environment(code)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


def sign(service: Process, name: str = "payments", **more: Any) -> SignJwtResponse:
    with grpc.insecure_channel(service.ready["grpc"]) as channel:
        order = SignJwtRequest(issuer=f"issuers/{name}", claims_json="{}", **more)
        answer: SignJwtResponse = SigningServiceStub(channel).SignJwt(order, timeout=10)
        return answer


def keys_of(service: Process, call: str, request: Any) -> Any:
    with grpc.insecure_channel(service.ready["grpc"]) as channel:
        return getattr(KeyServiceStub(channel), call)(request, timeout=10)


def page(service: Process, path: str = PAYMENTS) -> tuple[bytes, str]:
    """Return a JWK Set and its ETag."""
    with urllib.request.urlopen(f"http://{service.ready['http']}{path}") as answer:
        return answer.read(), answer.headers["ETag"]


def same(*services: Process) -> bool:
    return len({page(one) for one in services}) == 1


def limits(server: PostgresServer) -> dict[str, int]:
    """Return limits in force for the issuer `payments`, in seconds."""
    names = "max_lifetime", "max_age", "max_staleness"
    row = server.execute(f"SELECT {', '.join(names)} FROM issuers WHERE name = 'payments'")  # noqa: S608 - constants
    return {name: int(value) // 1_000_000 for name, value in zip(names, row.split("|"), strict=True)}


def test_i12_two_configurations_side_by_side_only_raise_the_limits(
    tmp_path: Path, url: str, kms: str, server: PostgresServer
) -> None:
    longer = issuer("payments", "ES256", "ES384", max_lifetime="2h", jwks={"max_age": "1m"})
    shorter = issuer("payments", "ES256", max_lifetime="30m", default_lifetime="5m", jwks={"max_age": "4m"})
    old = config_of(tmp_path, url, kms, "old", shorter, max_staleness="10m")
    new = config_of(tmp_path, url, kms, "new", longer, issuer("orders"), max_staleness="5m")
    highest = {"max_lifetime": 7200, "max_age": 240, "max_staleness": 600}
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(serving(tmp_path, old))
        assert limits(server) == {"max_lifetime": 1800, "max_age": 240, "max_staleness": 600}
        other = stack.enter_context(serving(tmp_path, new))
        eventually(lambda: limits(server) == highest)
        # The series that only the newer configuration has is published by all replicas, and signs where it is configured.
        eventually(lambda: len(json.loads(page(one)[0])["keys"]) == 4)
        eventually(lambda: same(one, other))
        assert sign(other, "orders").kid
        for _ in range(10):
            assert sign(one).kid == sign(other).kid
        before = sign(one).kid
        keys_of(one, "RotateKeys", RotateKeysRequest(issuer="issuers/payments"))
        kid = sign(one).kid
        eventually(lambda: sign(other).kid == kid != before)
        keys_of(other, "RevokeKeys", RevokeKeysRequest(name=f"issuers/payments/keys/{before}", reason="a test"))
        eventually(lambda: before not in page(one)[0].decode())
        eventually(lambda: same(one, other))
    with serving(tmp_path, old) as one:  # rolled back: what was in force once stays in force
        assert limits(server) == highest
        assert sign(one).kid == kid
        assert len(json.loads(page(one)[0])["keys"]) >= 4


def newer_version(directory: Path, name: str, *migrations: str) -> Path:
    """Copy the service, with further migrations, as a newer version of it would have. Return what to put first on Python's path."""
    root = directory / name
    shutil.copytree(Path(sealwright.__file__).parent, root / "sealwright", ignore=shutil.ignore_patterns("__pycache__"))
    versions = root / "sealwright" / "sql" / "migrations" / "versions"
    before = max(p.name for p in versions.glob("0*.py")).partition("_")[0]
    for n, body in enumerate(migrations, 900):
        number = f"0{n}"
        text = f'import sqlalchemy as sa\nfrom alembic import op\n\nrevision = "{number}"\ndown_revision = "{before}"\n'
        (versions / f"{number}_next.py").write_text(
            f"{text}branch_labels = depends_on = None\n\n\ndef upgrade() -> None:{body.format(number=number)}"
        )
        before = number
    tables = root / "sealwright" / "sql" / "tables.py"
    _replace(tables, "SCHEMA: Final = ", f'SCHEMA: Final = "{before}"  # ')
    oldest = '    Column("oldest_schema"'
    _replace(tables, oldest, f'    Column("motto", String(9)),\n{oldest}')
    _replace(root / "sealwright" / "__init__.py", "__version__ = ", f'__version__ = "{name}"  # ')
    return root


def _replace(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def versions(config: str) -> dict[str, str]:
    """Return the states of replicas by their version."""
    return {r["version"]: r["state"] for r in run(config, "replicas")[1]["replicas"]}


def test_i12_two_versions_side_by_side_until_one_cannot_understand_the_store(
    tmp_path: Path, url: str, kms: str
) -> None:
    adds = newer_version(tmp_path, "8.0", ADDS)
    breaks = newer_version(tmp_path, "9.0", ADDS, BREAKS)
    hosts = [config_of(tmp_path, url, kms, f"host-{n}", max_staleness="3s") for n in range(3)]
    with contextlib.ExitStack() as stack, contextlib.ExitStack() as first:
        one = first.enter_context(serving(tmp_path, hosts[0]))
        two = stack.enter_context(serving(tmp_path, hosts[1]))
        before = sign(one).kid
        # The newer version only adds something: the older one goes on, beside it, and may start again.
        assert run(hosts[0], "db", "upgrade", code=adds) == (0, {"revision": "0900"})
        assert run(hosts[1], "db", "upgrade") == (0, {"revision": "0900"})
        three = stack.enter_context(serving(tmp_path, hosts[2], adds))
        assert sign(one).kid == sign(two).kid == sign(three).kid == before
        assert same(one, two, three)
        keys_of(three, "RotateKeys", RotateKeysRequest(issuer="issuers/payments"))
        rotated = sign(three).kid
        eventually(lambda: sign(two).kid == rotated)
        first.close()
        one = stack.enter_context(serving(tmp_path, hosts[0]))
        keys_of(one, "RevokeKeys", RevokeKeysRequest(name=f"issuers/payments/keys/{before}", reason="a test"))
        eventually(lambda: same(one, two, three))
        assert before not in page(three)[0].decode()
        eventually(lambda: versions(hosts[0]) == {"8.0": "current", sealwright.__version__: "current"})
        # The newest version changes the meaning of something: the others stop to sign, and say why.
        assert run(hosts[0], "db", "upgrade", code=breaks) == (0, {"revision": "0901"})
        four = stack.enter_context(
            serving(tmp_path, config_of(tmp_path, url, kms, "host-4", max_staleness="3s"), breaks)
        )
        assert sign(four).kid == rotated
        shown = page(four)
        for old in (one, two, three):
            eventually(lambda: _too_old(old))  # noqa: B023 - at once
            assert page(old) == shown
            eventually(lambda: "run the newer version" in old.log.read_text())  # noqa: B023 - at once
        for code in (None, adds):
            status, out = run(hosts[0], "serve", code=code)
            assert status == 1
            (problem,) = out["problems"]
            assert problem.startswith(
                "store.url: the database is at revision 0901, but this version of Sealwright knows "
            )
            assert problem.endswith(": run the newer version")
        assert sign(four).kid == rotated


def _too_old(service: Process) -> bool:
    try:
        sign(service)
    except grpc.RpcError as error:
        return bool(error.code() is grpc.StatusCode.UNAVAILABLE)
    return False
