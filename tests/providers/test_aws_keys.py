from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from providers.aws_provider_support import (
    ACCOUNT,
    ES256,
    REGION,
    SECONDS,
    arn_of,
    ask,
    guarded,
    make,
    opened,
    settings,
    took,
)
from sealwright.errors import (
    ProviderAccessDeniedError,
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderThrottledError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
)
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.jose.jwk import load_public_key, thumbprint
from sealwright.provider import KeyCreator, KeyDeleter, KeyDisabler, KeyFinder, KeySpec, Protection
from sealwright_providers.aws.provider import AwsProvider
from sealwright_testing.emulators.aws import AwsEmulator, KeyState

TAGS = {"sealwright:deployment": "d", "sealwright:intent": "i"}


async def test_a_key_is_described_by_arn_and_by_alias_as_the_same_pinned_key(
    provider: AwsProvider, emulator: AwsEmulator
) -> None:
    made = await make(provider)
    await ask(provider, "CreateAlias", AliasName="alias/jwt", TargetKeyId=arn_of(made))
    names = (made.uri, "awskms:///alias/jwt", f"awskms:///arn:aws:kms:{REGION}:{ACCOUNT}:alias/jwt")
    found = [await provider.describe(name, timeout=SECONDS) for name in names]
    assert found == [made] * 3
    assert made.uri == f"awskms:///{next(iter(emulator.keys.values())).arn}"
    assert made.protection is Protection.HSM
    assert len({thumbprint(load_public_key(k.public_key or b"")) for k in found}) == 1


@pytest.mark.parametrize("state", [s for s in KeyState if s != KeyState.ENABLED])
async def test_a_key_that_cannot_sign_now_is_described_as_disabled(
    http: AwsProvider, emulator: AwsEmulator, state: KeyState
) -> None:
    key = await make(http)
    emulator.set_key_state(arn_of(key), state)
    with pytest.raises(ProviderKeyDisabledError):
        await http.describe(key.uri, timeout=SECONDS)


async def test_another_keys_public_key_is_not_described_as_this_ones(http: AwsProvider, emulator: AwsEmulator) -> None:
    key, _ = await make(http), await make(http)
    emulator.add_fault("other_key", operation="GetPublicKey")
    with pytest.raises(ProviderUnavailableError):
        await http.describe(key.uri, timeout=SECONDS)


async def test_a_key_for_encryption_has_no_signing_algorithms(http: AwsProvider) -> None:
    made = await ask(http, "CreateKey", KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT")
    found = await http.describe(f"awskms:///{made['KeyMetadata']['Arn']}", timeout=SECONDS)
    assert found.algorithms == frozenset()


async def test_a_created_key_has_its_tags_from_the_first_instant(provider: AwsProvider, emulator: AwsEmulator) -> None:
    spec = KeySpec(algorithm=ALGORITHMS["PS256"], rsa_bits=3072, tags=TAGS)
    made = await provider.create(spec, timeout=20)
    assert load_public_key(made.public_key or b"").key_size == 3072  # type: ignore[union-attr]
    (key,) = emulator.keys.values()
    assert (key.arn, key.tags) == (arn_of(made), TAGS)
    assert "TagResource" not in emulator.calls


@pytest.mark.parametrize("protection", [Protection.SOFTWARE, Protection.EXTERNAL])
async def test_f22_aws_kms_creates_no_key_for_another_protection(
    http: AwsProvider, emulator: AwsEmulator, protection: Protection
) -> None:
    spec = KeySpec(algorithm=ALGORITHMS["ES256"], protection=protection)
    with pytest.raises(ProviderUnsupportedError, match=f"asks for {protection}"):
        await http.create(spec, timeout=SECONDS)
    assert not emulator.calls


async def test_a_new_key_is_waited_for_until_it_can_be_seen(http: AwsProvider, emulator: AwsEmulator) -> None:
    emulator.add_fault("not_yet_visible", seconds=0.3, times=1)
    made, seconds = None, 0.0
    error, seconds = await took(make(http))
    assert error is None
    assert seconds >= 0.3
    (key,) = emulator.keys.values()
    made = await http.describe(f"awskms:///{key.arn}", timeout=SECONDS)
    assert made.algorithms == {"ES256"}
    assert emulator.calls["CreateKey"] == 1


async def test_a_new_key_that_stays_unseen_ends_with_the_deadline(http: AwsProvider, emulator: AwsEmulator) -> None:
    emulator.add_fault("not_yet_visible", seconds=60, times=1)
    with pytest.raises(ProviderTimeoutError):
        await http.create(KeySpec(algorithm=ES256), timeout=0.5)
    assert len(emulator.keys) == 1


async def test_a_new_key_is_waited_for_while_it_is_creating(http: AwsProvider, emulator: AwsEmulator) -> None:
    emulator.add_fault("delay", operation="GetPublicKey", seconds=0.2, times=1)
    creating = asyncio.create_task(make(http))
    async with asyncio.timeout(3):
        while not emulator.keys:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    (key,) = emulator.keys.values()
    emulator.set_key_state(key.arn, KeyState.CREATING)
    emulator.add_fault("error", operation="DescribeKey", type="NotFoundException", times=1)
    await asyncio.sleep(0.5)
    assert not creating.done()
    emulator.set_key_state(key.arn, KeyState.ENABLED)
    assert arn_of(await creating) == key.arn


async def test_a_new_key_that_somebody_disables_is_an_error(http: AwsProvider, emulator: AwsEmulator) -> None:
    emulator.add_fault("delay", operation="GetPublicKey", seconds=0.2, times=1)
    creating = asyncio.create_task(make(http))
    async with asyncio.timeout(3):
        while not emulator.keys:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    emulator.set_key_state(next(iter(emulator.keys)), KeyState.DISABLED)
    with pytest.raises(ProviderKeyDisabledError):
        await creating


async def test_keys_are_found_by_all_their_tags_among_more_than_a_page(
    provider: AwsProvider, emulator: AwsEmulator
) -> None:
    async with opened(emulator.endpoint) as quick:
        await asyncio.gather(*(make(quick, intent=f"{n}") for n in range(103)))
        one = await make(quick, intent="7", deployment="d")
        other = await make(quick, intent="7", deployment="e")
    emulator.reset_calls()
    assert list(await provider.find({"intent": "7", "deployment": "d"}, timeout=20)) == [one.uri]
    assert emulator.calls["ListKeys"] == 2
    found = await provider.find({"intent": "7"}, timeout=20)
    assert len(found) == 3
    assert {one.uri, other.uri} < set(found)
    assert not await provider.find({"intent": "no such"}, timeout=20)


async def test_a_key_with_more_than_a_page_of_tags_is_found(http: AwsProvider, emulator: AwsEmulator) -> None:
    key = await make(http)
    held = emulator.store.find(arn_of(key))
    assert held is not None
    held.tags = {f"t{n:03}": "v" for n in range(120)}
    assert list(await http.find({"t000": "v", "t119": "v"}, timeout=SECONDS)) == [key.uri]


async def test_a_key_that_is_pending_deletion_is_not_found(http: AwsProvider) -> None:
    kept, gone = await make(http, a="b"), await make(http, a="b")
    await http.schedule_deletion(gone.uri, timeout=SECONDS)
    assert list(await http.find({"a": "b"}, timeout=SECONDS)) == [kept.uri]


@pytest.mark.parametrize("code", ["AccessDeniedException", "NotFoundException", "UnsupportedOperationException"])
async def test_a_key_of_others_whose_tags_may_not_be_read_does_not_hide_ours(
    provider: AwsProvider, emulator: AwsEmulator, code: str
) -> None:
    theirs, ours = await make(provider), await make(provider, a="b")
    emulator.add_fault("error", operation="ListResourceTags", key_id=arn_of(theirs), type=code)
    assert list(await provider.find({"a": "b"}, timeout=SECONDS)) == [ours.uri]


async def test_credentials_that_are_refused_while_tags_are_read_are_not_taken_for_no_such_key(
    provider: AwsProvider, emulator: AwsEmulator
) -> None:
    await make(provider, a="b")
    emulator.add_fault("error", operation="ListResourceTags", type="UnrecognizedClientException")
    with pytest.raises(ProviderAccessDeniedError):
        await provider.find({"a": "b"}, timeout=SECONDS)


async def test_a_search_that_fails_leaves_no_call_behind(http: AwsProvider, emulator: AwsEmulator) -> None:
    keys = [await make(http) for _ in range(20)]
    emulator.add_fault("throttle", operation="ListResourceTags", key_id=arn_of(keys[0]), times=1)
    emulator.add_fault("delay", operation="ListResourceTags", seconds=0.1)
    before = asyncio.all_tasks()
    with pytest.raises(ProviderThrottledError):
        await http.find({"a": "b"}, timeout=SECONDS)
    await asyncio.sleep(0.05)  # Wait for calls that were already on their way.
    asked = emulator.calls["ListResourceTags"]
    assert asked < 20
    await asyncio.sleep(0.15)
    assert emulator.calls["ListResourceTags"] == asked
    # The emulator's handlers of cancelled calls may still be among the tasks.
    assert not [t for t in asyncio.all_tasks() - before if "tagged" in str(t.get_coro())]


@pytest.mark.parametrize("operation", ["ListKeys", "ListResourceTags"])
async def test_a_broken_list_is_never_taken_for_an_empty_one(
    provider: AwsProvider, emulator: AwsEmulator, operation: str
) -> None:
    await make(provider, a="b")
    emulator.add_fault("malformed_json", operation=operation)
    with pytest.raises(ProviderUnavailableError):
        await provider.find({"a": "b"}, timeout=SECONDS)


async def test_disabling_stops_the_key_and_may_be_repeated(provider: AwsProvider, emulator: AwsEmulator) -> None:
    key = await make(provider)
    for _ in range(2):
        await provider.disable(key.uri, timeout=SECONDS)
    assert emulator.keys[arn_of(key).rpartition("/")[2]].state is KeyState.DISABLED
    with pytest.raises(ProviderKeyDisabledError):
        await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)


async def test_deletion_is_scheduled_with_the_longest_grace_and_once(
    provider: AwsProvider, emulator: AwsEmulator
) -> None:
    key = await make(provider)
    await provider.schedule_deletion(key.uri, timeout=SECONDS)
    (held,) = emulator.keys.values()
    first = held.deletion_time
    assert held.state is KeyState.PENDING_DELETION
    assert first is not None
    assert first - emulator.store.clock.now() == pytest.approx(timedelta(days=30).total_seconds(), abs=60)
    await provider.schedule_deletion(key.uri, timeout=SECONDS)
    assert next(iter(emulator.keys.values())).deletion_time == first


async def test_a_deletion_that_the_keys_state_forbids_is_not_taken_for_done(
    http: AwsProvider, emulator: AwsEmulator
) -> None:
    key = await make(http)
    emulator.set_key_state(arn_of(key), KeyState.CREATING)
    with pytest.raises(ProviderKeyDisabledError):
        await http.schedule_deletion(key.uri, timeout=SECONDS)


async def test_a_disabled_key_can_be_scheduled_for_deletion(http: AwsProvider, emulator: AwsEmulator) -> None:
    key = await make(http)
    await http.disable(key.uri, timeout=SECONDS)
    await http.schedule_deletion(key.uri, timeout=SECONDS)
    assert next(iter(emulator.keys.values())).state is KeyState.PENDING_DELETION


async def test_a_key_that_is_gone_is_missing(http: AwsProvider, emulator: AwsEmulator) -> None:
    key = await make(http)
    await http.schedule_deletion(key.uri, timeout=SECONDS)
    emulator.advance_clock(31 * 86_400)
    for call in (http.describe(key.uri, timeout=SECONDS), http.sign(key.uri, ES256, b"a.b", timeout=SECONDS)):
        with pytest.raises(ProviderKeyMissingError):
            await call


async def test_closing_twice_is_harmless_and_nothing_is_asked_afterwards(emulator: AwsEmulator, transport: str) -> None:
    async with opened(emulator.endpoint, transport=transport) as provider:
        key = await make(provider)
        await provider.aclose()
        await provider.aclose()
        emulator.reset_calls()
        with pytest.raises(ProviderUnavailableError):
            await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)
    assert not emulator.calls


async def test_the_guard_sees_every_capability_of_aws_kms(http: AwsProvider) -> None:
    guard = guarded(http)
    assert all(isinstance(http, c) for c in (KeyCreator, KeyFinder, KeyDisabler, KeyDeleter))
    assert guard.manage_timeout == settings(None).manage_timeout.total_seconds()
