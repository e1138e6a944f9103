"""Creating keys and finding them again: one key for each intent, whatever fails in between (c59)."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from providers.gcp.gcp_support import (
    DEPLOYMENT,
    ES256,
    INTENT,
    SCHEME,
    SECONDS,
    make,
    name_of,
    opened,
    spec,
    tags,
)
from sealwright.errors import (
    ProviderError,
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderUnsupportedError,
    SealwrightError,
)
from sealwright.provider import KeyDescription, Protection
from sealwright_providers.gcp.errors import KeyPendingError
from sealwright_providers.gcp.provider import GcpProvider
from sealwright_testing.emulators.gcp import GcpEmulator
from sealwright_testing.emulators.gcp.store import Key

CREATING = ["CreateCryptoKey", "GetCryptoKeyVersion", "GetPublicKey"]
FINDING = ["GetCryptoKey", "ListCryptoKeyVersions"]
DAYS = 86400


async def found_or_made(provider: GcpProvider, intent: dict[str, str]) -> KeyDescription:
    """Do what `keys/creation.py` does for an intent that it takes over."""
    uris = sorted(await provider.find(intent, timeout=SECONDS))
    for surplus in uris[1:]:
        await provider.schedule_deletion(surplus, timeout=SECONDS)
    if uris:
        return await provider.describe(uris[0], timeout=SECONDS)
    return await provider.create(spec(tags=intent), timeout=SECONDS)


async def test_a_key_has_the_name_and_the_labels_of_its_intent(provider: GcpProvider, emulator: GcpEmulator) -> None:
    intent = tags()
    key = await make(provider, tags=intent | {"sealwright:issuer": "payments"})
    assert name_of(key) == f"{emulator.ring}/cryptoKeys/sealwright-{intent[INTENT]}/cryptoKeyVersions/1"
    assert emulator.versions[0].labels == {
        "sealwright-intent": intent[INTENT],
        "sealwright-deployment": intent[DEPLOYMENT],
        "sealwright-issuer": "payments",
    }


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("operation", [*CREATING, *FINDING])
async def test_c59_a_crash_at_any_call_leaves_one_key_for_the_intent(
    emulator: GcpEmulator, operation: str, *, after: bool
) -> None:
    intent = tags()
    for _ in range(2):
        emulator.add_fault("hang", operation=operation, after=after, times=1)
        async with opened(emulator) as crashing:
            task = asyncio.create_task(found_or_made(crashing, intent))
            await asyncio.wait((task,), timeout=0.2)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        emulator.clear_faults()
    async with opened(emulator) as provider:
        key = await found_or_made(provider, intent)
        assert [v.name for v in emulator.versions] == [name_of(key)]
        assert (await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)).value


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "RESOURCE_EXHAUSTED"])
async def test_c59_twenty_lost_answers_leave_one_key(provider: GcpProvider, emulator: GcpEmulator, code: str) -> None:
    intent = tags()
    for number in range(20):
        # The answer is lost. Every other time the key cannot be looked for either.
        emulator.add_fault("error", operation="CreateCryptoKey", code=code, after=True, times=1)
        if number % 2:
            emulator.add_fault("error", operation="GetCryptoKey", code=code, times=1)
        with suppress(ProviderError):
            await make(provider, tags=intent)
        emulator.clear_faults()
    key = await found_or_made(provider, intent)
    assert [v.name for v in emulator.versions] == [name_of(key)]


async def test_c59_creating_an_existing_key_describes_it(provider: GcpProvider, emulator: GcpEmulator) -> None:
    intent = tags()
    keys = [await make(provider, tags=intent) for _ in range(3)]
    keys += await asyncio.gather(*(make(provider, tags=intent) for _ in range(5)))
    assert len(set(keys)) == 1
    assert len(emulator.versions) == 1
    assert "CreateCryptoKeyVersion" not in emulator.calls


async def test_a_key_of_the_same_name_with_other_labels_is_not_ours(
    provider: GcpProvider, emulator: GcpEmulator
) -> None:
    intent = tags()
    key = await make(provider, tags=intent | {DEPLOYMENT: "another"})
    assert await provider.find(intent, timeout=SECONDS) == []
    with pytest.raises(ProviderUnsupportedError, match="labels say that it is another key"):
        await make(provider, tags=intent)
    assert await provider.find({**intent, DEPLOYMENT: "another"}, timeout=SECONDS) == [key.uri]
    assert len(emulator.versions) == 1


async def test_finding_by_intent_reads_one_key_and_does_not_search(
    provider: GcpProvider, emulator: GcpEmulator
) -> None:
    for _ in range(3):
        await make(provider, tags=tags())
    emulator.reset_calls()
    assert await provider.find(tags(), timeout=SECONDS) == []
    assert emulator.calls == {"GetCryptoKey": 1}


async def test_finding_without_an_intent_lists_every_page(provider: GcpProvider, emulator: GcpEmulator) -> None:
    with emulator.store.lock:
        for number in range(150):
            name = f"{emulator.ring}/cryptoKeys/k{number}"
            emulator.store.keys[name] = Key(
                name=name,
                purpose="ASYMMETRIC_SIGN",
                algorithm="EC_SIGN_P256_SHA256",
                protection="HSM",
                labels={},
                create_time=0,
                visible_time=0,
            )
    intent = tags()
    key = await make(provider, tags=intent)
    emulator.reset_calls()
    assert await provider.find({DEPLOYMENT: intent[DEPLOYMENT]}, timeout=SECONDS) == [key.uri]
    assert emulator.calls["ListCryptoKeys"] == 2


async def test_a_version_is_waited_for_while_it_is_generated(provider: GcpProvider, emulator: GcpEmulator) -> None:
    emulator.add_fault("pending_generation", seconds=0.5)
    key = await make(provider, tags=tags())
    assert (await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)).value
    assert emulator.calls["GetCryptoKeyVersion"] > 1
    assert "CreateCryptoKeyVersion" not in emulator.calls


async def test_a_version_that_takes_minutes_stays_the_key_of_its_intent(
    provider: GcpProvider, emulator: GcpEmulator
) -> None:
    intent = tags()
    emulator.add_fault("pending_generation", seconds=300, times=1)
    with pytest.raises(KeyPendingError, match="still generating"):
        await provider.create(spec(tags=intent), timeout=0.5)
    for _ in range(2):
        with pytest.raises(ProviderKeyDisabledError, match="still generating"):
            await found_or_made(provider, intent)
    emulator.advance_clock(301)
    key = await found_or_made(provider, intent)
    assert [v.name for v in emulator.versions] == [name_of(key)]


async def test_a_new_key_that_is_not_visible_yet_is_waited_for(provider: GcpProvider, emulator: GcpEmulator) -> None:
    emulator.add_fault("not_yet_visible", seconds=0.5, times=1)
    assert (await make(provider, tags=tags())).algorithms == {"ES256"}
    emulator.add_fault("not_yet_visible", seconds=300, times=1)
    intent = tags()
    with pytest.raises(ProviderKeyDisabledError, match="not visible"):
        await provider.create(spec(tags=intent), timeout=0.5)
    # A replica that takes over does not see it either, and its name is taken: no second key is made.
    with pytest.raises(ProviderError):
        await asyncio.wait_for(found_or_made(provider, intent), SECONDS)
    emulator.advance_clock(301)
    await found_or_made(provider, intent)
    assert len(emulator.versions) == 2


async def test_a_version_whose_generation_failed_gets_a_successor(provider: GcpProvider, emulator: GcpEmulator) -> None:
    intent = tags()
    emulator.add_fault("generation_failed", times=1)
    with pytest.raises(ProviderKeyDisabledError, match="GENERATION_FAILED"):
        await make(provider, tags=intent)
    assert await provider.find(intent, timeout=SECONDS) == []
    key = await found_or_made(provider, intent)
    assert name_of(key).endswith("/cryptoKeyVersions/2")
    assert await provider.find(intent, timeout=SECONDS) == [key.uri]


async def test_c59_a_successor_whose_answer_is_lost_is_found(provider: GcpProvider, emulator: GcpEmulator) -> None:
    intent = tags()
    first = await make(provider, tags=intent)
    emulator.set_state(name_of(first), "DESTROYED")
    emulator.add_fault("error", operation="CreateCryptoKeyVersion", code="UNAVAILABLE", after=True, times=1)
    with pytest.raises(ProviderError):
        await found_or_made(provider, intent)
    key = await found_or_made(provider, intent)
    assert [v.name for v in emulator.versions if v.state == "ENABLED"] == [name_of(key)]


async def test_f12_imported_key_material_is_found_and_described_as_such(
    provider: GcpProvider, emulator: GcpEmulator
) -> None:
    intent = tags()
    key = await make(provider, tags=intent)
    emulator.mark_imported(name_of(key))
    assert await provider.find(intent, timeout=SECONDS) == [key.uri]
    assert (await provider.describe(key.uri, timeout=SECONDS)).imported
    assert not key.imported
    with pytest.raises(ProviderUnsupportedError, match="imported"):
        await provider.create(spec(tags=intent), timeout=SECONDS)
    assert len(emulator.versions) == 1


@pytest.mark.parametrize(
    ("asked", "level", "described"),
    [
        (None, "HSM", Protection.HSM),
        (Protection.HSM, "HSM", Protection.HSM),
        (Protection.SOFTWARE, "SOFTWARE", Protection.SOFTWARE),
    ],
)
async def test_a_key_is_kept_where_the_series_says_and_in_an_hsm_otherwise(
    provider: GcpProvider, emulator: GcpEmulator, asked: Protection | None, level: str, described: Protection
) -> None:
    assert (await make(provider, protection=asked)).protection is described
    assert emulator.versions[0].protection == level


@pytest.mark.parametrize(
    ("level", "described"),
    [("EXTERNAL", Protection.EXTERNAL), ("EXTERNAL_VPC", Protection.EXTERNAL), ("HSM_SINGLE_TENANT", Protection.HSM)],
)
async def test_the_protection_is_that_of_the_version(
    provider: GcpProvider, emulator: GcpEmulator, level: str, described: Protection
) -> None:
    key = await make(provider)
    emulator._version(name_of(key)).protection = level
    assert (await provider.describe(key.uri, timeout=SECONDS)).protection is described


async def test_external_keys_are_not_created(provider: GcpProvider, emulator: GcpEmulator) -> None:
    with pytest.raises(ProviderUnsupportedError, match="external"):
        await make(provider, protection=Protection.EXTERNAL)
    assert emulator.calls == {}


async def test_destruction_is_scheduled_for_googles_own_waiting_time_and_once(
    provider: GcpProvider, emulator: GcpEmulator
) -> None:
    intent = tags()
    key = await make(provider, tags=intent)
    for _ in range(2):
        await provider.schedule_deletion(key.uri, timeout=SECONDS)
    assert emulator.versions[0].state == "DESTROY_SCHEDULED"
    assert await provider.find(intent, timeout=SECONDS) == []
    emulator.advance_clock(29 * DAYS)
    assert emulator.versions[0].state == "DESTROY_SCHEDULED"
    emulator.advance_clock(2 * DAYS)
    assert emulator.versions[0].state == "DESTROYED"
    await provider.schedule_deletion(key.uri, timeout=SECONDS)


async def test_a_key_that_is_still_generated_cannot_be_destroyed(provider: GcpProvider, emulator: GcpEmulator) -> None:
    key = await make(provider)
    emulator.set_state(name_of(key), "PENDING_GENERATION")
    with pytest.raises(ProviderKeyDisabledError):
        await provider.schedule_deletion(key.uri, timeout=SECONDS)


async def test_disabling_twice_succeeds_and_the_key_is_found_disabled(
    provider: GcpProvider, emulator: GcpEmulator
) -> None:
    intent = tags()
    key = await make(provider, tags=intent)
    for _ in range(2):
        await provider.disable(key.uri, timeout=SECONDS)
    assert emulator.versions[0].state == "DISABLED"
    assert await provider.find(intent, timeout=SECONDS) == [key.uri]


async def test_a_key_ring_that_does_not_exist_is_reported(emulator: GcpEmulator) -> None:
    async with opened(emulator, key_ring="missing") as provider:
        for call in (provider.check(timeout=SECONDS), provider.create(spec(), timeout=SECONDS)):
            with pytest.raises(ProviderKeyMissingError, match="key ring does not exist"):
                await call


async def test_a_key_in_another_ring_is_not_described(provider: GcpProvider, emulator: GcpEmulator) -> None:
    key = await make(provider)
    with pytest.raises(SealwrightError, match="key ring"):
        await provider.describe(key.uri.replace(SCHEME, SCHEME + "projects/x/"), timeout=SECONDS)
    assert emulator.calls["CreateCryptoKey"] == 1
