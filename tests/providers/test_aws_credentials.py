from __future__ import annotations

import asyncio
import itertools
import logging
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.credentials import Credentials as StaticCredentials
from botocore.credentials import RefreshableCredentials

from providers.aws_provider_support import ES256, SECONDS, guarded, make, opened
from sealwright.errors import ProviderAccessDeniedError, ProviderUnavailableError
from sealwright_providers.aws import credentials as module
from sealwright_providers.aws.credentials import CredentialSource
from sealwright_providers.aws.errors import CredentialsRefusedError
from sealwright_providers.aws.provider import AwsProvider
from sealwright_providers.aws.sigv4 import Credentials
from sealwright_testing.emulators.aws import AwsEmulator, Credential
from support.waiting import until


class Chain:
    """A credential chain with the results that a test chooses. Counts how often it is called."""

    def __init__(self, find: Callable[[], Any]) -> None:
        self.find = find
        self.searches = 0

    def load_credentials(self) -> Any:
        self.searches += 1
        return self.find()

    def session(self) -> botocore.session.Session:
        session = botocore.session.Session()
        session.register_component("credential_provider", self)
        return session


class Sts:
    """Issues numbered credentials that expire, as AssumeRole does."""

    def __init__(self, life: float) -> None:
        self.life = life
        self.given = 0
        self.broken = False
        self.wait = threading.Event()
        self.wait.set()

    def metadata(self) -> dict[str, str]:
        assert self.wait.wait(10)
        if self.broken:
            raise OSError("arn:aws:iam::111122223333:role/secret")
        self.given += 1
        end = datetime.now(UTC) + timedelta(seconds=self.life)
        return {
            "access_key": f"k{self.given}",
            "secret_key": "s",
            "token": f"t{self.given}",
            "expiry_time": end.isoformat(),
        }

    def credentials(self) -> RefreshableCredentials:
        return RefreshableCredentials.create_from_metadata(self.metadata(), self.metadata, "test")


def write_keys(path: Path, name: str) -> None:
    path.write_text(f"[default]\naws_access_key_id = {name}\naws_secret_access_key = test\n")


@pytest.fixture
def keys_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    return tmp_path / "credentials"


async def test_c113_temporary_credentials_are_renewed_without_a_failed_request(
    emulator: AwsEmulator, transport: str, keys_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A program that issues credentials for two seconds, configured as `credential_process` in the SDK's file.
    count, config = keys_file.with_name("count"), keys_file.with_name("config")
    count.write_text("0")
    program = keys_file.with_name("give.py")
    program.write_text(
        "import datetime, json, pathlib\n"
        f"count = pathlib.Path({str(count)!r}); n = int(count.read_text()) + 1\n"
        "new = count.with_suffix('.new'); new.write_text(str(n)); new.replace(count)\n"
        "end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=2)\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': f'temporary{n}', 'SecretAccessKey': 's', 'SessionToken': 't',"
        " 'Expiration': end.isoformat()}))\n"
    )
    config.write_text(f"[default]\ncredential_process = {sys.executable} {program}\n")
    monkeypatch.setattr(module, "_LAST_SECONDS", 1)
    monkeypatch.setattr(module, "_RENEWAL_SECONDS", 0.3)
    for n in range(1, 200):
        emulator.add_credential(Credential(access_key=f"temporary{n}", secret_key="s", session_token="t"))
    async with opened(emulator.endpoint, transport=transport) as provider:
        key = await make(provider)
        seen: dict[str, float] = {}
        end = time.monotonic() + 3
        while time.monotonic() < end:
            await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)
            seen.setdefault(count.read_text(), time.monotonic())
            for number, since in seen.items():
                if time.monotonic() - since > 2:
                    emulator.expire_credential(f"temporary{number}")
            await asyncio.sleep(0.05)
        # Only the credentials of the last two seconds are valid now.
        emulator.expire_credential("temporary1")
        await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)
    assert {r.outcome for r in emulator.requests} == {"ok"}


async def test_c113_credentials_that_aws_calls_expired_are_looked_for_again_within_the_request(
    emulator: AwsEmulator, keys_file: Path
) -> None:
    write_keys(keys_file, "test")
    emulator.add_credential(Credential(access_key="next", secret_key="test"))
    async with opened(emulator.endpoint) as provider:
        key = await make(provider)
        write_keys(keys_file, "next")
        emulator.expire_credential("test")
        emulator.reset_calls()
        calls = [provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS) for _ in range(50)]
        assert all(raw.value for raw in await asyncio.gather(*calls))
        assert emulator.calls["Sign"] <= 100
        emulator.reset_calls()
        await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)
        assert emulator.calls == {"Sign": 1}


async def test_an_access_key_that_was_replaced_is_noticed_without_a_restart(
    emulator: AwsEmulator, keys_file: Path
) -> None:
    write_keys(keys_file, "old")
    emulator.add_credential(Credential(access_key="old", secret_key="test"))
    async with opened(emulator.endpoint) as provider:
        key = await make(provider)
        write_keys(keys_file, "test")
        del emulator._credentials["old"]
        assert (await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)).value


async def test_expired_credentials_without_others_are_unavailable_and_make_no_storm(
    http: AwsProvider, emulator: AwsEmulator
) -> None:
    guard = guarded(http)
    key = await make(http)
    emulator.expire_credential("test")
    emulator.reset_calls()
    for _ in range(4):
        with pytest.raises(ProviderUnavailableError):
            await guard.sign(key.uri, ES256, b"a.b", timeout=SECONDS)
    assert emulator.calls["Sign"] <= 8


@pytest.mark.usefixtures("keys_file")  # the file does not exist
async def test_without_credentials_access_is_denied_and_no_call_made(emulator: AwsEmulator, transport: str) -> None:
    uri = "awskms:///arn:aws:kms:eu-west-1:111122223333:key/a"
    async with opened(emulator.endpoint, transport=transport) as provider:
        for call in (provider.sign(uri, ES256, b"a.b", timeout=SECONDS), provider.check(timeout=SECONDS)):
            with pytest.raises(ProviderAccessDeniedError) as refused:
                await call
            assert refused.value.__cause__ is None
    assert not emulator.calls


async def test_c112_fifty_who_ask_at_once_are_one_search() -> None:
    chain = Chain(lambda: StaticCredentials("k", "s", "t"))
    source = CredentialSource(chain.session())
    found = await asyncio.gather(*(source.current() for _ in range(50)))
    assert set(found) == {Credentials("k", "s", "t")}
    assert chain.searches == 1


async def test_a_lack_of_credentials_is_looked_into_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    chain = Chain(lambda: None)
    source = CredentialSource(chain.session())
    for _ in range(20):
        with pytest.raises(CredentialsRefusedError):
            await source.current()
    assert chain.searches == 1
    assert len(caplog.records) == 1


async def test_a_chain_that_breaks_is_unavailable_and_its_text_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise ValueError("arn:aws:iam::111122223333:role/secret")

    source = CredentialSource(Chain(broken).session())
    with pytest.raises(ProviderUnavailableError) as refused:
        await source.current()
    assert "secret" not in f"{refused.value!r} {refused.value.__cause__!r} {caplog.text}"
    assert "ValueError" in caplog.text


async def test_credentials_near_their_end_are_renewed_beside_the_calls_that_use_them() -> None:
    sts = Sts(life=60)  # botocore recommends to renew credentials that expire within fifteen minutes.
    source = CredentialSource(Chain(sts.credentials).session())
    first = await source.current()
    sts.wait.clear()
    start = time.monotonic()
    source._next_renewal = 0
    assert [await source.current() for _ in range(20)] == [first] * 20
    # Neither the callers nor the event loop wait for the chain, which hangs now.
    assert time.monotonic() - start < 3
    given = sts.given
    sts.wait.set()
    await until(lambda: sts.given > given)
    await until(lambda: source._job is None)
    assert await source.current() != first
    # The next renewal does not start at once, though botocore recommends it.
    given = sts.given
    assert source._job is None
    assert sts.given == given


async def test_credentials_are_used_to_their_end_where_they_cannot_be_renewed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING, "sealwright_providers")
    monkeypatch.setattr(module, "_LAST_SECONDS", 0)
    sts = Sts(life=0.5)
    source = CredentialSource(Chain(sts.credentials).session())
    first = await source.current()
    sts.broken = True
    source._next_renewal = 0
    assert await source.current() == first
    await asyncio.sleep(0.6)
    source._not_before = 0
    with pytest.raises(ProviderUnavailableError):
        await source.current()
    assert not [r for r in caplog.records if r.name.startswith("sealwright") and "arn:" in r.getMessage()]
    sts.broken, sts.life = False, 60
    source._not_before = 0
    assert await source.current() != first


async def test_refused_credentials_are_replaced_once_for_all_who_had_them() -> None:
    numbers = itertools.count(1)
    chain = Chain(lambda: StaticCredentials(f"k{next(numbers)}", "s"))
    source = CredentialSource(chain.session())
    refused = await source.current()
    others = await asyncio.gather(*(source.other_than(refused) for _ in range(20)))
    # A late caller, whose answer was slow.
    others.append(await source.other_than(refused))
    assert set(others) == {Credentials("k2", "s")}
    assert await source.current() == Credentials("k2", "s")
    assert chain.searches == 2


async def test_where_there_are_no_others_the_chain_is_asked_once_a_second() -> None:
    chain = Chain(lambda: StaticCredentials("k", "s"))
    source = CredentialSource(chain.session())
    refused = await source.current()
    assert {await source.other_than(refused) for _ in range(20)} == {None}
    assert chain.searches == 2


async def test_a_caller_who_leaves_does_not_end_the_search_of_others() -> None:
    release = threading.Event()

    def slow() -> StaticCredentials:
        assert release.wait(5)
        return StaticCredentials("k", "s")

    chain = Chain(slow)
    source = CredentialSource(chain.session())
    leaving, staying = (asyncio.create_task(source.current()) for _ in range(2))
    await until(lambda: chain.searches == 1)
    leaving.cancel()
    await asyncio.wait((leaving,))
    release.set()
    assert await staying == Credentials("k", "s")
    assert leaving.cancelled()
    assert chain.searches == 1


async def test_closing_ends_the_wait_for_a_chain_that_hangs() -> None:
    release = threading.Event()
    chain = Chain(lambda: release.wait(5) and None)
    source = CredentialSource(chain.session())
    waiting = asyncio.create_task(source.current())
    await until(lambda: chain.searches == 1)
    await source.aclose()
    await source.aclose()
    with pytest.raises(ProviderUnavailableError):
        await waiting
    release.set()
