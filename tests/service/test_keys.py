"""Rotation and revocation, through the whole service."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from sealwright.v1 import keys_pb2
from sealwright_testing.emulators.aws import AwsEmulator, KeyState
from support.document import QUICK_TIMING, document, issuer, quick_issuer, series
from support.service import Service, audit_records, failure, running, until

State = keys_pb2.Key

pytestmark = pytest.mark.usefixtures("each_database")


async def test_a_first_set_has_an_active_key_and_a_standby(service: Service, emulator: AwsEmulator) -> None:
    active, standby = await service.list_keys()
    assert (active.state, standby.state) == (State.STATE_ACTIVE, State.STATE_STANDBY)
    assert active.key_uri.startswith("awskms:///arn:aws:kms:eu-west-1:111122223333:key/")
    assert set(await service.published()) == {active.kid, standby.kid}
    assert (await service.sign()).kid == active.kid
    assert len(emulator.keys) == 2
    assert all("sealwright:intent" in k.tags for k in emulator.keys.values())
    one = await service.keys.GetKey(keys_pb2.GetKeyRequest(name=active.name))
    assert one == active


async def test_rotating_retires_the_head_and_the_standby_signs_at_once(service: Service) -> None:
    active, standby = await service.list_keys()
    before = await service.sign()
    rotated = {k.kid: k for k in await service.rotate(expected_kid=active.kid)}
    assert rotated[active.kid].state == State.STATE_RETIRED
    assert rotated[standby.kid].state == State.STATE_ACTIVE
    after = await service.sign()
    assert (before.kid, after.kid) == (active.kid, standby.kid)
    await until(lambda: _count(service, 3))
    retired, _, fresh = await service.list_keys()
    await until(lambda: _has_withdraw_time(service, active.kid))
    retired = (await service.list_keys())[0]
    tail = retired.withdraw_time.seconds - retired.retire_time.seconds
    assert tail == pytest.approx(15 * 60 + 3600 + 2 * 60, abs=2)
    assert fresh.state == State.STATE_STANDBY
    for token in (before.token, after.token):
        await service.verify(token)


async def test_a_repeated_expected_kid_changes_nothing(service: Service) -> None:
    active, _ = await service.list_keys()
    await service.rotate(expected_kid=active.kid)
    await until(lambda: _count(service, 3))
    await until(lambda: _has_withdraw_time(service, active.kid))
    await until(lambda: _all_ready_times(service))
    before = [k.SerializeToString() for k in await service.list_keys()]
    await service.rotate(expected_kid=active.kid)
    assert [k.SerializeToString() for k in await service.list_keys()] == before


async def test_a_plan_changes_nothing(service: Service) -> None:
    before = [k.SerializeToString() for k in await service.list_keys()]
    planned = await service.rotate(validate_only=True)
    assert [k.state for k in planned] == [State.STATE_RETIRED, State.STATE_ACTIVE]
    assert [k.SerializeToString() for k in await service.list_keys()] == before


async def test_c100_a_young_standby_cannot_be_rotated_to(service: Service) -> None:
    await service.rotate()
    await until(lambda: _count(service, 3))
    await until(lambda: _all_ready_times(service))
    refused = await failure(service.rotate())
    assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "ROTATION_TOO_EARLY")
    young = (await service.list_keys())[-1]
    assert refused.metadata["earliestTime"] == young.ready_time.ToJsonString()[:23] + "Z"
    lead = young.ready_time.seconds - young.publish_time.seconds
    assert lead == pytest.approx(3600, abs=2)


async def test_rotating_what_is_not_there_says_so(service: Service) -> None:
    assert (await failure(service.rotate(expected_kid="x" * 43))).reason == "KEY_NOT_FOUND"
    assert (await failure(service.rotate(series="none"))).reason == "REQUEST_INVALID"
    assert (await failure(service.rotate("none"))).reason == "ISSUER_NOT_FOUND"


async def test_c103_revocation_takes_the_key_out_and_the_standby_signs(service: Service, emulator: AwsEmulator) -> None:
    active, standby = await service.list_keys()
    await service.sign()
    done = await service.revoke(active.kid)
    assert [k.state for k in done.keys] == [State.STATE_REVOKED]
    assert list(done.warnings) == []
    assert set(await service.published()) == {standby.kid}
    assert (await service.sign()).kid == standby.kid
    assert emulator.keys[active.key_uri.rpartition("/")[2]].state is KeyState.DISABLED
    assert done.verifier_cache_until.seconds > time.time()
    again = await service.revoke(active.kid)
    assert again.keys[0].revoke_time == done.keys[0].revoke_time


async def test_revoking_the_last_ready_key_makes_the_young_standby_sign_with_a_warning(service: Service) -> None:
    active, standby = await service.list_keys()
    await service.revoke(active.kid)
    await until(lambda: _count(service, 3))
    young = (await service.list_keys())[-1]
    done = await service.revoke(standby.kid)
    assert any("young standby" in w for w in done.warnings)
    assert (await service.sign()).kid == young.kid
    await until(lambda: _published(service, 2))


async def test_c97_after_the_revocation_of_the_last_key_the_set_is_200_without_it(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    async with running(document(tmp_path, emulator.endpoint)) as service:
        emulator.add_fault("http_500", operation="CreateKey")
        for key in await service.list_keys():
            await service.revoke(key.kid)
        status, _, body = await service.get("/payments/.well-known/jwks.json")
        assert (status, body) == (200, b'{"keys":[]}')
        assert (await failure(service.sign())).reason == "NO_ACTIVE_KEY"


async def test_a_revocation_plan_and_its_refusals(service: Service) -> None:
    active, _ = await service.list_keys()
    before = [k.SerializeToString() for k in await service.list_keys()]
    plan = await service.revoke(active.kid, validate_only=True)
    assert plan.keys[0].state == State.STATE_REVOKED
    assert [k.SerializeToString() for k in await service.list_keys()] == before
    assert "reason" in (await failure(service.revoke(active.kid, reason=""))).violations
    assert (await failure(service.revoke("x" * 43))).reason == "KEY_NOT_FOUND"


async def test_revoking_by_provider_takes_all_of_its_keys(tmp_path: Path, emulator: AwsEmulator) -> None:
    both = issuer("payments", series=[series(name="first"), series(name="second", provider="other")])
    config = document(tmp_path, emulator.endpoint, both)
    config["providers"]["other"] = config["providers"]["aws"]
    async with running(config) as service:
        done = await service.keys.RevokeKeys(keys_pb2.RevokeKeysRequest(provider="aws", reason="credentials stolen"))
        assert len(done.keys) == 2
        assert {k.provider for k in done.keys} == {"aws"}
        kid = (await service.sign()).kid
        assert next(k for k in await service.list_keys() if k.kid == kid).series == "second"


async def test_how_many_tokens_die_is_estimated(tmp_path: Path, emulator: AwsEmulator) -> None:
    config = document(tmp_path, emulator.endpoint)
    async with running(config) as service:
        kids = {(await service.sign()).kid for _ in range(7)}
    async with running(config) as service:
        done = await service.revoke(kids.pop(), validate_only=True)
        assert done.estimated_live_tokens == 7


async def test_scheduled_rotation_happens_by_itself_and_no_token_is_lost(tmp_path: Path, emulator: AwsEmulator) -> None:
    quick = quick_issuer(max_lifetime="4s", default_lifetime="3s")
    quick["series"][0]["rotation_period"] = "1s"
    async with running(document(tmp_path, emulator.endpoint, quick, timing=QUICK_TIMING)) as service:
        kids: list[str] = []
        end = time.monotonic() + 60
        withdrawn = False
        while time.monotonic() < end and not (len(set(kids)) >= 3 and withdrawn):
            signed = await service.sign()
            kids.append(signed.kid)
            await service.verify(signed.token)
            withdrawn = kids[0] not in await service.published()
            await asyncio.sleep(0.1)
        assert len(set(kids)) >= 3
        assert withdrawn
        assert sorted(set(kids), key=kids.index) == [k.kid for k in await service.list_keys()][: len(set(kids))]


async def test_two_replicas_rotate_once_and_serve_the_same_bytes(tmp_path: Path, emulator: AwsEmulator) -> None:
    config = document(tmp_path, emulator.endpoint)
    async with running(config) as one, running(config) as two:
        assert (await one.get("/payments/.well-known/jwks.json"))[2] == (
            await two.get("/payments/.well-known/jwks.json")
        )[2]
        active = (await one.list_keys())[0]
        await asyncio.gather(*(s.rotate(expected_kid=active.kid) for s in (one, two) for _ in range(5)))
        await until(lambda: _count(one, 3))
        await until(lambda: _count(two, 3))
        await asyncio.sleep(0.5)
        assert len(emulator.keys) == 3
        assert (await one.get_jwks()).jwks_json == (await two.get_jwks()).jwks_json
        assert (await one.sign()).kid == (await two.sign()).kid != active.kid


async def test_c99_no_replica_signs_with_a_key_that_another_does_not_publish(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    quick = quick_issuer(max_lifetime="4s", default_lifetime="3s")
    quick["series"][0]["rotation_period"] = "1s"
    config = document(tmp_path, emulator.endpoint, quick, timing=QUICK_TIMING)
    async with running(config) as one, running(config) as two:
        kids: set[str] = set()
        end = time.monotonic() + 60
        while len(kids) < 2 and time.monotonic() < end:
            for signer, other in ((one, two), (two, one)):
                signed = await signer.sign()
                assert signed.kid in await other.published()
                kids.add(signed.kid)
            await asyncio.sleep(0.05)
        assert len(kids) == 2


async def test_c59_crashes_between_creating_and_publishing_leave_no_orphans(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    config = document(tmp_path, emulator.endpoint)
    config["providers"]["aws"]["manage_timeout"] = "1s"
    # The key is made, but its answer is lost: as if the process had died in between.
    emulator.add_fault("drop_connection", operation="CreateKey", times=2, after=True)
    for _ in range(3):
        async with running(config, wait=False):
            await asyncio.sleep(0.3)
    assert len(emulator.keys) == 2
    async with running(config) as service:
        await until(lambda: _count(service, 2))
        alive = [k for k in emulator.keys.values() if k.state is not KeyState.PENDING_DELETION]
        assert len(alive) == 2
        assert {k.key_uri.rpartition("/")[2] for k in await service.list_keys()} == set(emulator.keys)


async def test_c27_c50_a_restart_with_the_kms_down_serves_the_same_set(tmp_path: Path, emulator: AwsEmulator) -> None:
    config = document(tmp_path, emulator.endpoint)
    async with running(config) as service:
        before = (await service.get("/payments/.well-known/jwks.json"))[2]
        kid = (await service.sign()).kid
    emulator.add_fault("http_500")
    async with running(config) as service:
        status, _, after = await service.get("/payments/.well-known/jwks.json")
        assert (status, after) == (200, before)
        refused = await failure(service.sign())
        assert (refused.code, refused.reason) == ("UNAVAILABLE", "PROVIDER_UNAVAILABLE")
        emulator.clear_faults()
        await until(lambda: _signs(service, kid))


async def test_every_change_of_a_key_is_audited(service: Service) -> None:
    active, standby = await service.list_keys()
    await service.rotate()
    await service.revoke(standby.kid, reason="lost")
    records = audit_records(service.document)
    assert {r["kid"] for r in records if r["event"] == "key_published"} >= {active.kid, standby.kid}
    assert any(r["event"] == "key_changed" and r["kid"] == active.kid and "retire_time" in r for r in records)
    revoked = [(r["outcome"], r["why"], r["caller"]) for r in records if r["event"] == "revoke"]
    assert revoked == [("begun", "lost", "local"), ("allowed", "lost", "local")]


async def test_lists_come_in_pages(tmp_path: Path, emulator: AwsEmulator) -> None:
    async with running(document(tmp_path, emulator.endpoint, issuer("a"), issuer("b"), issuer("c"))) as service:
        first = await service.keys.ListIssuers(keys_pb2.ListIssuersRequest(page_size=2))
        rest = await service.keys.ListIssuers(
            keys_pb2.ListIssuersRequest(page_size=2, page_token=first.next_page_token)
        )
        assert [i.name for i in (*first.issuers, *rest.issuers)] == ["issuers/a", "issuers/b", "issuers/c"]
        assert rest.next_page_token == ""
        one = await service.keys.ListKeys(keys_pb2.ListKeysRequest(parent="issuers/a", page_size=1))
        assert len(one.keys) == 1
        for bad in ({"page_size": -1}, {"page_token": "nonsense"}):
            refused = await failure(service.keys.ListIssuers(keys_pb2.ListIssuersRequest(**bad)))
            assert refused.reason == "REQUEST_INVALID"
        found = await service.keys.GetIssuer(keys_pb2.GetIssuerRequest(name="issuers/b"))
        assert (found.url, list(found.algorithms)) == ("https://id.example.com/b", ["ES256"])


async def _count(service: Service, wanted: int) -> bool:
    return len(await service.list_keys()) >= wanted


async def _published(service: Service, wanted: int) -> bool:
    return len(await service.published()) >= wanted


async def _has_withdraw_time(service: Service, kid: str) -> bool:
    return any(k.kid == kid and k.HasField("withdraw_time") for k in await service.list_keys())


async def _all_ready_times(service: Service) -> bool:
    return all(k.HasField("ready_time") for k in await service.list_keys())


async def _signs(service: Service, kid: str) -> bool:
    try:
        return bool((await service.sign()).kid == kid)
    except Exception:  # noqa: BLE001 - not yet
        return False
