"""I12: the runbook of docs/incident.md, played through with the very commands of the page, on real processes and PostgreSQL."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import grpc
import pytest

from faults.test_clock_is_set import Wall
from sealwright.v1.keys_pb2 import Key, RotateKeysRequest
from sealwright.v1.keys_pb2_grpc import KeyServiceStub
from sealwright_testing.emulators.aws import AwsEmulator, KeyState, ThreadedAwsEmulator
from sealwright_testing.postgres import PostgresServer
from support.databases import upgraded
from support.document import series
from support.hosts import TIMING, Host, configuration, eventually, started
from support.runbook import Runbook, blocks

PAGE = "incident.md"
FIRST = series(name="first", min_lead="0s")
SECOND = series(name="second", provider="other", min_lead="0s")


@pytest.fixture
def database(server: PostgresServer) -> str:
    name = server.create_database()
    upgraded(server.url(name))
    return name


@pytest.fixture
def other() -> Iterator[AwsEmulator]:
    with ThreadedAwsEmulator() as one:
        yield one


class Incident:
    """Two hosts, and the section of the page about what happens to them."""

    def __init__(self, section: str, directory: Path, *hosts: Host) -> None:
        self.hosts = hosts
        self.at = hosts[0]
        self.page = Runbook(PAGE, section, directory, self._systemctl)
        self.page.variables |= {"ISSUER": "payments", "PROVIDER": "aws", "REASON": "a drill"}

    def _systemctl(self, words: str) -> None:
        """Do what systemd would do: stop the service on every host, and start it on the host of the moment."""
        action, unit = words.split()
        assert unit == "sealwright"
        for host in self.hosts if action == "stop" else [self.at]:
            host.stop()
        if action != "stop":
            self.at.start()

    def _env(self, host: Host) -> dict[str, str]:
        self.at = host
        address = host.ready.get("grpc", "")
        return {"CONFIG": host.config, "SEALWRIGHT_ADDRESS": address, "SEALWRIGHT_PLAINTEXT": "1", **host.env}

    def run(self, status: int = 0, host: Host | None = None, **more: str) -> str:
        """Run the next commands of the page on a host; return what they print."""
        ran = self.page.run({**self._env(host or self.at), **more})
        assert ran.status == status, ran.output
        return ran.output

    def repeat(self, host: Host, status: int = 0) -> str:
        """Run the same commands on another host."""
        ran = self.page.repeat(self._env(host))
        assert ran.status == status, ran.output
        return ran.output


@pytest.fixture
def two(tmp_path: Path, server: PostgresServer, database: str) -> Callable[..., tuple[Host, Host]]:
    def make(providers: dict[str, AwsEmulator], *made: Any) -> tuple[Host, Host]:
        url = server.url(database)
        one, other = (Host(tmp_path / n, configuration(tmp_path / n, url, providers, *made)) for n in ("one", "two"))
        return one, other

    return make


def alike(*hosts: Host) -> bool:
    return len({host.served()[1] for host in hosts}) == 1


def test_i12_the_page_has_commands_for_each_incident_and_names_no_other_variables() -> None:
    found = blocks(PAGE)
    assert list(found)[1:] == ["Stolen credentials", "A leaked key", "A lost database", "A lost KMS", "A wrong clock"]
    assert all(found.values())
    first = " ".join(found["Before you begin"])
    assert set(re.findall(r"([A-Z_]+)=", first)) == {"CONFIG", "ISSUER", "PROVIDER", "REASON", "SEALWRIGHT_ADDRESS"}


def test_i12_stolen_credentials(
    tmp_path: Path, two: Callable[..., tuple[Host, Host]], kms: AwsEmulator, other: AwsEmulator
) -> None:
    one, far = two({"aws": kms, "other": other}, FIRST, SECOND)
    incident = Incident("Stolen credentials", tmp_path, one, far)
    with started(one, far):
        stolen = {k.kid for k in one.listed() if k.provider == "aws"}
        tagged = next(iter(kms.keys.values())).tags
        one.sign()
        plan = incident.run(host=one)
        assert "tokens that stop verifying" in plan
        assert stolen <= one.kids(), "nothing has changed"
        assert "until `sealwright keys unblock aws`" in incident.run()
        for host in (one, far):
            assert not stolen & host.kids()
            assert host.sign().kid == host.active("second").kid
        assert {k.state for k in list(kms.keys.values())} == {KeyState.DISABLED}
        replicas = incident.run()
        assert replicas.count("current") == 2
        incident.run()  # the doctor
        client = boto3.client("kms", endpoint_url=kms.endpoint, region_name=kms.region)
        tags = [{"TagKey": name, "TagValue": value} for name, value in tagged.items()]
        arn = client.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY", Tags=tags)["KeyMetadata"]["Arn"]
        client.close()
        assert incident.run(status=1) == f"aws: awskms:///{arn}\n"
        assert "creates keys again" in incident.run()
        eventually(lambda: len([k for k in one.listed() if k.provider == "aws" and k.kid not in stolen]) == 2)
        assert incident.run().count("REVOKED") == len(stolen)
        assert kms.keys[arn.rpartition("/")[2]].state is KeyState.ENABLED, "it was left to the operator"
        for host in (one, far):
            grant = {**host.document["grants"][0], "roles": ["rotator", "revoker", "auditor"]}
            host.configure({**host.document, "grants": [grant]})
        incident.run(host=one)
        incident.repeat(host=far)
        assert {one.reason(), far.reason()} == {"CALLER_NOT_PERMITTED"}
    incident.page.finish()


def test_i12_a_leaked_key(tmp_path: Path, two: Callable[..., tuple[Host, Host]], kms: AwsEmulator) -> None:
    one, far = two({"aws": kms}, FIRST)
    incident = Incident("A leaked key", tmp_path, one, far)
    with started(one, far):
        key, token = one.active(), one.sign().token
        incident.page.variables["KID"] = key.kid
        assert "tokens that stop verifying" in incident.run(host=one)
        assert key.kid in far.kids()
        assert "warning" not in incident.run(), "its standby was ready"
        assert token
        for host in (one, far):
            assert key.kid not in host.kids()
            assert host.sign().kid != key.kid
        assert key.kid not in incident.run()
        assert "stale_replicas" not in incident.run()
        assert kms.keys[key.key_uri.rpartition("/")[2]].state is KeyState.DISABLED
        eventually(lambda: alike(one, far))
    incident.page.finish()


def test_i12_a_lost_database(
    tmp_path: Path, two: Callable[..., tuple[Host, Host]], kms: AwsEmulator, server: PostgresServer, database: str
) -> None:
    one, far = two({"aws": kms}, FIRST)
    incident = Incident("A lost database", tmp_path, one, far)
    incident.page.variables |= {"DATABASE": server.url(database), "BACKUP": str(tmp_path / "backup")}

    def lose() -> None:
        server.execute(f"DROP DATABASE {database} WITH (FORCE)")
        before = one.served()
        eventually(lambda: one.reason() == far.reason() == "STATE_TOO_OLD")
        assert one.served() == far.served() == before, "the set is served"
        server.execute(f"CREATE DATABASE {database}")

    with started(one, far):
        incident.run(host=one)
        known = {k.key_uri for k in one.listed()}
        revoked = one.active()
        one.revoke(revoked)
        eventually(lambda: len(one.kids()) == 2)
        young = {k.key_uri for k in one.listed()} - known
        eventually(lambda: alike(one, far))
        lose()
        incident.run()
        incident.run()
        assert "older" in incident.run(status=1)
        assert set(re.findall(r"awskms:\S+", incident.run(status=1))) == young
        incident.run(host=one)
        incident.repeat(host=far)
        eventually(lambda: one.reason() == far.reason() == "")
        assert revoked.kid not in one.kids() | far.kids(), "it is revoked again"
        eventually(lambda: alike(one, far))
        everything = {k.key_uri for k in one.listed() if not k.HasField("revoke_time")}
        lose()
        incident.run(host=one)
        assert everything <= set(re.findall(r"awskms:\S+", incident.run(status=1)))
        incident.run(host=one)
        incident.repeat(host=far)
        eventually(lambda: one.reason() == far.reason() == "", seconds=60)
        eventually(lambda: alike(one, far))
        states = {k.state for k in list(kms.keys.values())}
        assert KeyState.PENDING_DELETION not in states, "nothing is deleted"
    incident.page.finish()


def test_i12_a_lost_kms(tmp_path: Path, two: Callable[..., tuple[Host, Host]], other: AwsEmulator) -> None:
    with ThreadedAwsEmulator() as lost, contextlib.ExitStack() as running:
        one, far = two({"aws": lost}, series(name="first"))
        incident = Incident("A lost KMS", tmp_path, one, far)
        running.enter_context(started(one, far))
        old = one.kids()
        lost.add_fault("http_500")
        assert one.reason() == "PROVIDER_UNAVAILABLE"
        assert one.kids() == far.kids() == old
        for host in (one, far):
            more = configuration(
                host.directory,
                host.document["store"]["url"],
                {"aws": lost, "other": other},
                series(name="first"),
                series(name="second", provider="other"),
            )
            host.configure(more)
        incident.run(host=one)
        incident.repeat(host=far)
        eventually(lambda: len(far.kids()) == 4)
        assert old < one.kids(), "tokens of the old keys live on"
        assert incident.run(host=one).count("STANDBY") == 3
        assert one.reason() == "PROVIDER_UNAVAILABLE"
        assert "a young standby signs at once" in incident.run()
        for host in (one, far):
            eventually(lambda h=host: h.reason() == "")  # type: ignore[misc]
            assert not old & host.kids()
        assert "could not be disabled" in one.log
        lost.clear_faults()
        eventually(lambda: {k.state for k in list(lost.keys.values())} == {KeyState.DISABLED}, seconds=90)
    incident.page.finish()


def test_i12_a_wrong_clock(tmp_path: Path, server: PostgresServer, database: str, kms: AwsEmulator) -> None:
    wall = Wall(tmp_path)
    url = server.url(database)
    one, far = (Host(tmp_path / n, configuration(tmp_path / n, url, {"aws": kms}, FIRST)) for n in ("one", "two"))
    alone = Host(
        tmp_path / "alone", configuration(tmp_path / "alone", f"sqlite:///{tmp_path}/s.db", {"aws": kms}, FIRST)
    )
    far.env, alone.env = wall.env, wall.env
    incident = Incident("A wrong clock", tmp_path, one, far, alone)
    with started(one, far, alone):
        before = far.served(), alone.served()
        wall.set(200)  # AWS accepts a difference of five minutes
        eventually(lambda: far.reason() == alone.reason() == "STATE_TOO_OLD")
        assert one.reason() == ""
        assert "clock" in incident.run(host=far, status=1)
        assert "clock" in incident.repeat(host=alone, status=1)
        incident.repeat(host=one)
        assert b"clock" in far.get("/readyz")[1]
        assert (far.served(), alone.served()) == before
        incident.run(host=alone)
        eventually(lambda: alone.reason() == "")
        assert alone.served() == before[1]
        assert far.reason() == "STATE_TOO_OLD", "the store's clock was right"
        wall.set(0)
        eventually(lambda: far.reason() == "")
        assert far.served() == before[0]
    incident.page.finish()


def test_i12_with_the_kms_down_the_set_is_served_and_rotation_waits_and_says_so(
    two: Callable[..., tuple[Host, Host]], kms: AwsEmulator
) -> None:
    one, far = two({"aws": kms}, series(name="first", min_lead="0s", rotation_period="1s"))
    for host in (one, far):
        host.configure({**host.document, "timing": {**TIMING, "max_serve_age": "3s"}})
    with started(one, far):
        kms.add_fault("http_500")
        head = one.active().kid
        told = "a key of series first could not be created: PROVIDER_UNAVAILABLE"
        with grpc.insecure_channel(one.ready["grpc"]) as channel:
            rotated = KeyServiceStub(channel).RotateKeys(RotateKeysRequest(issuer="issuers/payments"), timeout=10)
        assert head in {k.kid for k in rotated.keys}
        eventually(lambda: told in one.log + far.log)
        signer = one.active().kid
        eventually(lambda: alike(one, far))
        before = one.served()
        time.sleep(8)  # longer than the scheduled wait
        assert one.active().kid == signer, "without a standby it is not retired, although its period is over"
        assert far.served() == one.served() == before
        assert [host.get(path)[0] for host in (one, far) for path in ("/healthz", "/readyz/jwks")] == [200] * 4
        eventually(lambda: one.get("/readyz")[0] == 503, "nobody signs, so only the next probe finds out")
        kms.clear_faults()
        eventually(lambda: one.reason() == far.reason() == "")
        eventually(lambda: len([k for k in one.listed() if k.state in {Key.STATE_ACTIVE, Key.STATE_STANDBY}]) == 2)
