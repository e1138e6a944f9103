"""I12, C59: `keys orphans` on an empty or restored database, and beside another deployment. It lists, and nothing is deleted."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from sealwright_testing.emulators.aws import AwsEmulator, KeyState
from sealwright_testing.postgres import PostgresServer
from support.databases import KINDS, upgraded
from support.document import QUICK_TIMING, document, quick_issuer
from support.hosts import Host, eventually, started


class Stores:
    """Makes, copies and replaces databases of one kind."""

    def __init__(self, directory: Path, server: PostgresServer | None) -> None:
        self._directory = directory
        self._server = server
        self._made = 0

    def empty(self) -> str:
        """Return the URL of a store without keys."""
        if self._server is None:
            self._made += 1
            return f"sqlite:///{self._directory}/state{self._made}.db"
        url = self._server.url(self._server.create_database())
        upgraded(url)
        return url

    def copy(self, url: str) -> str:
        """Copy a store that nobody uses, and return the URL of the copy."""
        if self._server is None:
            target = self.empty()
            shutil.copy(url.removeprefix("sqlite:///"), target.removeprefix("sqlite:///"))
            return target
        name = url.removeprefix("postgresql://postgres@/").partition("?")[0]
        self._server.execute(f"CREATE DATABASE {name}_copy TEMPLATE {name}")
        return self._server.url(f"{name}_copy")


@pytest.fixture(params=KINDS)
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    server = request.getfixturevalue("server") if request.param == "postgresql" else None
    return Stores(tmp_path, server)


def configuration(directory: Path, kms: AwsEmulator, url: str) -> dict[str, Any]:
    directory.mkdir(exist_ok=True)
    return document(directory, kms.endpoint, quick_issuer(), timing=QUICK_TIMING, store={"url": url})


def states(kms: AwsEmulator) -> dict[str, KeyState]:
    return {f"awskms:///{k.arn}": k.state for k in list(kms.keys.values())}


def listed(host: Host) -> list[str]:
    """Return what the command lists. It must change nothing."""
    kms_before = host.command("keys", "orphans")
    code, found = host.command("keys", "orphans")
    assert (code, found) == kms_before
    assert code == int(bool(found["orphans"]["aws"]))
    return list(found["orphans"]["aws"])


def test_i12_an_older_copy_lists_the_keys_that_are_younger_and_deletes_nothing(
    tmp_path: Path, kms: AwsEmulator, stores: Stores
) -> None:
    host = Host(tmp_path / "one", configuration(tmp_path / "one", kms, stores.empty()))
    with started(host):
        assert listed(host) == []
    old = stores.copy(host.document["store"]["url"])
    with started(host):
        known = {k.key_uri for k in host.listed()}
        host.revoke(host.active())
        eventually(lambda: len(host.kids()) == 2)
        young = sorted({k.key_uri for k in host.listed()} - known)
    host.configure({**host.document, "store": {"url": old}})
    assert listed(host) == young, "the restored store does not know them"
    before = states(kms)
    with started(host):
        assert host.reason() == "STATE_TOO_OLD"
        assert listed(host) == young
        assert states(kms) == before
        assert host.command("store", "accept")[0] == 0
        eventually(lambda: host.reason() == "", seconds=60)
        assert listed(host) == young, "it never uses and never deletes them"
    after = states(kms)
    assert {uri: after[uri] for uri in young} == dict.fromkeys(young, KeyState.ENABLED)
    assert KeyState.PENDING_DELETION not in after.values()


def test_i12_an_empty_database_lists_the_keys_of_the_lost_one_and_deletes_nothing(
    tmp_path: Path, kms: AwsEmulator, stores: Stores
) -> None:
    host = Host(tmp_path / "one", configuration(tmp_path / "one", kms, stores.empty()))
    with started(host):
        lost = sorted(k.key_uri for k in host.listed())
    host.configure({**host.document, "store": {"url": stores.empty()}})
    with started(host):
        assert host.reason() == "STATE_TOO_OLD"
        assert listed(host) == lost
        created = len(states(kms))
        assert created == len(lost), "nothing is created before an operator has decided"
        assert host.command("store", "accept")[0] == 0
        eventually(lambda: host.reason() == "", seconds=60)
        assert listed(host) == [], "another deployment from now on"
    assert set(states(kms).values()) == {KeyState.ENABLED}


def test_i12_two_deployments_in_one_account_leave_each_others_keys_alone(
    tmp_path: Path, kms: AwsEmulator, stores: Stores
) -> None:
    one, two = (Host(tmp_path / name, configuration(tmp_path / name, kms, stores.empty())) for name in ("one", "two"))
    with started(one, two):
        assert len({k.key_uri for h in (one, two) for k in h.listed()}) == 4
        for host in (one, two):
            assert listed(host) == []
        two.revoke(provider="aws")
        theirs = {k.key_uri for k in one.listed()}
        assert {states(kms)[uri] for uri in theirs} == {KeyState.ENABLED}
        assert one.reason() == ""
        for host in (one, two):
            assert listed(host) == []
    assert KeyState.PENDING_DELETION not in states(kms).values()
