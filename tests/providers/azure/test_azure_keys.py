from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from providers.azure.azure_support import ES256, INTENT, SECONDS, make, name_of, opened, version_of
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
from sealwright.jose.jwk import load_public_key
from sealwright.provider import KeyCreator, KeyDeleter, KeyDisabler, KeyFinder, KeySpec, Protection
from sealwright_providers.azure.provider import AzureProvider
from sealwright_testing.emulators.azure import AzureEmulator

TAGS = {"sealwright:deployment": "d", INTENT: "01945c8e-7f00-7000-8000-000000000000"}
DAY = 86_400


async def rotate(provider: AzureProvider, name: str) -> None:
    await provider._connection.call("POST", provider._connection.target(f"keys/{name}/rotate"), b"{}", timeout=SECONDS)


def test_the_provider_has_every_capability(azure: AzureProvider) -> None:
    assert all(isinstance(azure, kind) for kind in (KeyCreator, KeyFinder, KeyDisabler, KeyDeleter))


async def test_a_created_key_is_named_after_its_intent_and_has_its_tags_from_the_first_instant(
    azure: AzureProvider, vault: AzureEmulator
) -> None:
    spec = KeySpec(algorithm=ALGORITHMS["PS256"], rsa_bits=3072, tags=TAGS)
    made = await azure.create(spec, timeout=20)
    assert load_public_key(made.public_key or b"").key_size == 3072  # type: ignore[union-attr]
    (key,) = vault.keys
    assert (key.name, key.tags) == (f"sealwright-{TAGS[INTENT]}", TAGS)
    assert "UpdateKey" not in vault.calls


async def test_creating_for_one_intent_twice_makes_one_key_with_one_version(
    azure: AzureProvider, vault: AzureEmulator
) -> None:
    first, second = [await azure.create(KeySpec(algorithm=ES256, tags=TAGS), timeout=20) for _ in range(2)]
    assert first == second
    assert len(vault.keys) == 1
    assert vault.calls["CreateKey"] == 1


async def test_f12_replicas_that_create_at_the_same_moment_are_told_of_their_versions_and_find_both(
    azure: AzureProvider, vault: AzureEmulator, tmp_path: Path
) -> None:
    await azure.check(timeout=SECONDS)
    vault.add_fault("delay", operation="CreateKey", seconds=0.2)
    async with opened(vault, tmp_path) as replica:
        await replica.check(timeout=SECONDS)
        spec = KeySpec(algorithm=ES256, tags=TAGS)
        one, two = await asyncio.gather(azure.create(spec, timeout=20), replica.create(spec, timeout=20))
    assert vault.calls["CreateKey"] == 2
    assert one.uri != two.uri
    assert set(await azure.find(TAGS, timeout=SECONDS)) == {one.uri, two.uri}


async def test_a_name_that_something_else_has_gets_no_new_version(azure: AzureProvider, vault: AzureEmulator) -> None:
    await azure.create(KeySpec(algorithm=ES256, tags=TAGS), timeout=20)
    with pytest.raises(ProviderUnsupportedError, match="other tags"):
        await azure.create(KeySpec(algorithm=ES256, tags=TAGS | {"sealwright:deployment": "other"}), timeout=20)
    assert len(vault.keys) == 1


async def test_a_name_in_the_soft_deleted_state_is_a_clear_error_and_works_once_recovered(
    azure: AzureProvider, vault: AzureEmulator
) -> None:
    made = await azure.create(KeySpec(algorithm=ES256, tags=TAGS), timeout=20)
    vault.delete(name_of(made))
    with pytest.raises(ProviderKeyDisabledError, match="recovered"):
        await azure.create(KeySpec(algorithm=ES256, tags=TAGS), timeout=20)
    assert await azure.find(TAGS, timeout=SECONDS) == []
    vault.vault.keys.recover(name_of(made))
    assert await azure.create(KeySpec(algorithm=ES256, tags=TAGS), timeout=20) == made


async def test_a_new_key_is_returned_once_it_can_be_described(azure: AzureProvider, vault: AzureEmulator) -> None:
    vault.add_fault("not_yet_visible", seconds=0.5)
    made = await azure.create(KeySpec(algorithm=ES256, tags=TAGS), timeout=5)
    assert await azure.describe(made.uri, timeout=SECONDS) == made
    vault.clear_faults()
    vault.add_fault("not_yet_visible", seconds=60)
    with pytest.raises(ProviderTimeoutError):
        await azure.create(KeySpec(algorithm=ES256), timeout=0.5)


@pytest.mark.parametrize(
    "tags", [{str(number): "x" for number in range(16)}, {"name": "x" * 257}, {"x" * 257: "value"}]
)
async def test_tags_that_azure_cannot_hold_are_refused_before_any_call(
    azure: AzureProvider, vault: AzureEmulator, tags: dict[str, str]
) -> None:
    with pytest.raises(ProviderUnsupportedError, match="tags"):
        await azure.create(KeySpec(algorithm=ES256, tags=tags), timeout=SECONDS)
    assert not vault.calls


@pytest.mark.parametrize(
    ("algorithm", "protection", "kind"),
    [
        ("ES256", None, "EC"),
        ("ES256", Protection.SOFTWARE, "EC"),
        ("ES256", Protection.HSM, "EC-HSM"),
        ("RS256", Protection.HSM, "RSA-HSM"),
    ],
)
async def test_f22_the_protection_is_the_type_of_the_key(
    azure: AzureProvider, vault: AzureEmulator, algorithm: str, protection: Protection | None, kind: str
) -> None:
    key = await azure.create(KeySpec(algorithm=ALGORITHMS[algorithm], protection=protection), timeout=20)
    assert vault.keys[0].kind == kind
    assert key.protection is (protection or Protection.SOFTWARE)


async def test_f22_what_a_vault_or_hsm_cannot_give_is_refused_before_any_call(
    azure: AzureProvider, azure_hsm: AzureProvider, vault: AzureEmulator, hsm: AzureEmulator
) -> None:
    for provider, protection in (
        (azure, Protection.EXTERNAL),
        (azure_hsm, Protection.EXTERNAL),
        (azure_hsm, Protection.SOFTWARE),
    ):
        with pytest.raises(ProviderUnsupportedError, match=protection):
            await provider.create(KeySpec(algorithm=ES256, protection=protection), timeout=SECONDS)
    assert not vault.calls
    assert not hsm.calls
    assert (await make(azure_hsm)).protection is Protection.HSM


@pytest.mark.parametrize(
    "attributes",
    [{"enabled": False}, {"not_before": 4_000_000_000}, {"expires": 1_000_000_000}],
    ids=["disabled", "not_yet_valid", "expired"],
)
async def test_c49_attributes_that_forbid_signing_are_read_and_honoured(
    azure: AzureProvider, vault: AzureEmulator, attributes: dict[str, Any]
) -> None:
    key = await make(azure)
    vault.set_attributes(name_of(key), **attributes)
    vault.reset_calls()
    for call in (azure.describe(key.uri, timeout=SECONDS), azure.sign(key.uri, ES256, b"a.b", timeout=SECONDS)):
        with pytest.raises(ProviderKeyDisabledError):
            await call
    assert dict(vault.calls) == {"GetKey": 1, "Sign": 1}


async def test_dates_on_the_right_side_of_now_change_nothing(azure: AzureProvider, vault: AzureEmulator) -> None:
    key = await make(azure)
    vault.set_attributes(name_of(key), not_before=1_000_000_000, expires=4_000_000_000)
    assert await azure.describe(key.uri, timeout=SECONDS) == key


@pytest.mark.parametrize("fault", ["other_key", "other_name"])
async def test_another_version_is_not_described_as_this_one(
    azure: AzureProvider, vault: AzureEmulator, fault: str
) -> None:
    key = await make(azure)
    vault.add_fault(fault, operation="GetKey")
    with pytest.raises(ProviderUnavailableError):
        await azure.describe(key.uri, timeout=SECONDS)


async def test_keys_are_found_by_intent_with_one_call_and_by_other_tags_through_all_pages(
    azure: AzureProvider, vault: AzureEmulator
) -> None:
    made = [await make(azure, **{INTENT: f"i-{number}", "sealwright:deployment": "d"}) for number in range(30)]
    await make(azure, other="x")
    vault.reset_calls()
    assert await azure.find({INTENT: "i-7", "sealwright:deployment": "d"}, timeout=SECONDS) == [made[7].uri]
    assert dict(vault.calls) == {"GetKeyVersions": 1}
    assert await azure.find({INTENT: "i-7", "sealwright:deployment": "other"}, timeout=SECONDS) == []
    assert await azure.find({INTENT: "i-99"}, timeout=SECONDS) == []
    found = await azure.find({"sealwright:deployment": "d"}, timeout=20)
    assert sorted(found) == sorted(key.uri for key in made)
    assert vault.calls["GetKeys"] == 2


async def test_f12_a_disabled_key_is_found_and_all_of_several_versions(
    azure: AzureProvider, vault: AzureEmulator
) -> None:
    key = await azure.create(KeySpec(algorithm=ES256, tags=TAGS), timeout=20)
    await asyncio.sleep(1.1)  # `created` has whole seconds.
    await rotate(azure, name_of(key))
    vault.set_attributes(name_of(key), version_of(key), enabled=False)
    versions = {f"{key.uri.rpartition('/')[0]}/{v.version}" for v in vault.keys}
    assert len(versions) == 2
    assert set(await azure.find(TAGS, timeout=SECONDS)) == versions
    assert set(await azure.find({"sealwright:deployment": "d"}, timeout=SECONDS)) == versions


@pytest.mark.parametrize("operation", ["GetKeys", "GetKeyVersions"])
async def test_a_broken_list_is_never_taken_for_an_empty_one(
    azure: AzureProvider, vault: AzureEmulator, operation: str
) -> None:
    await azure.create(KeySpec(algorithm=ES256, tags=TAGS), timeout=20)
    vault.add_fault("malformed_json", operation=operation)
    with pytest.raises(ProviderUnavailableError):
        await azure.find({"sealwright:deployment": "d"}, timeout=SECONDS)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"value": None},
        {"value": [{"kid": 1}]},
        {"value": [{"kid": "https://x/keys/a/1"}]},
        {"value": [], "nextLink": "https://evil.example/keys/sealwright-i/versions?$skiptoken=1"},
        {"value": [], "nextLink": "https://HOST/secrets?$skiptoken=1"},
    ],
)
async def test_a_list_that_makes_no_sense_is_an_outage_and_the_token_stays_in_the_vault(
    azure: AzureProvider, vault: AzureEmulator, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    host = vault.vault_url.removeprefix("https://")
    await make(azure)
    answer = {name: value.replace("HOST", host) if isinstance(value, str) else value for name, value in fields.items()}
    monkeypatch.setattr("sealwright_providers.azure.connection._object", lambda _raw: answer)
    with pytest.raises(ProviderUnavailableError):
        await azure.find({INTENT: "i"}, timeout=SECONDS)


@pytest.mark.parametrize(
    "fields", [{}, {"key": {}}, {"key": {"kid": "x"}, "attributes": {}}, {"key": {"kid": 1}, "attributes": {}}]
)
async def test_a_description_that_makes_no_sense_is_an_outage(
    azure: AzureProvider, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    key = await make(azure)
    monkeypatch.setattr("sealwright_providers.azure.connection._object", lambda _raw: fields)
    with pytest.raises(ProviderUnavailableError):
        await azure.describe(key.uri, timeout=SECONDS)


async def test_disabling_stops_the_one_version_and_may_be_repeated(azure: AzureProvider, vault: AzureEmulator) -> None:
    key = await make(azure)
    await rotate(azure, name_of(key))
    for _ in range(2):
        await azure.disable(key.uri, timeout=SECONDS)
    assert [k.enabled for k in vault.keys] == [False, True]
    with pytest.raises(ProviderKeyDisabledError):
        await azure.sign(key.uri, ES256, b"a.b", timeout=SECONDS)


async def test_deletion_is_a_soft_deletion_and_may_be_repeated(azure: AzureProvider, vault: AzureEmulator) -> None:
    key = await make(azure, **TAGS)
    for _ in range(2):
        await azure.schedule_deletion(key.uri, timeout=SECONDS)
    assert vault.calls["DeleteKey"] == 1
    assert [k.deleted for k in vault.keys] == [True]
    assert "PurgeDeletedKey" not in vault.calls
    for call in (azure.describe(key.uri, timeout=SECONDS), azure.sign(key.uri, ES256, b"a.b", timeout=SECONDS)):
        with pytest.raises(ProviderKeyDisabledError, match="recovered"):
            await call
    vault.advance_clock(91 * DAY)
    for action in (azure.describe, azure.schedule_deletion):
        with pytest.raises(ProviderKeyMissingError):
            await action(key.uri, timeout=SECONDS)


async def test_a_deletion_that_another_replica_made_in_between_succeeds(
    azure: AzureProvider, vault: AzureEmulator
) -> None:
    key = await make(azure, **TAGS)
    vault.add_fault("delay", operation="DeleteKey", seconds=0.3)
    call = asyncio.ensure_future(azure.schedule_deletion(key.uri, timeout=SECONDS))
    await asyncio.sleep(0.1)
    vault.delete(name_of(key))
    await call


async def test_versions_of_one_intent_are_deleted_together_and_others_never(
    azure: AzureProvider, vault: AzureEmulator
) -> None:
    ours = await make(azure, **TAGS)
    await rotate(azure, name_of(ours))
    await azure.schedule_deletion(ours.uri, timeout=SECONDS)
    foreign = await make(azure)  # As an operator would make it: without an intent.
    await rotate(azure, name_of(foreign))
    with pytest.raises(ProviderUnsupportedError, match="other versions"):
        await azure.schedule_deletion(foreign.uri, timeout=SECONDS)
    assert [k.deleted for k in vault.keys] == [False, False, True, True]
    with pytest.raises(ProviderKeyMissingError):
        await azure.schedule_deletion(foreign.uri[:-32] + "0" * 32, timeout=SECONDS)


async def test_without_the_permission_to_read_deleted_keys_a_deleted_key_is_missing(
    azure: AzureProvider, vault: AzureEmulator
) -> None:
    key = await make(azure)
    vault.delete(name_of(key))
    vault.add_fault("deny", operation="GetDeletedKey")
    with pytest.raises(ProviderKeyMissingError):
        await azure.describe(key.uri, timeout=SECONDS)
    vault.clear_faults()
    vault.add_fault("throttle", operation="GetDeletedKey")
    with pytest.raises(ProviderThrottledError):
        await azure.sign(key.uri, ES256, b"a.b", timeout=SECONDS)


async def test_check_succeeds_without_the_permission_to_list(azure: AzureProvider, vault: AzureEmulator) -> None:
    vault.add_fault("deny", operation="GetKeys")
    await azure.check(timeout=SECONDS)
    vault.clear_faults()
    vault.add_fault("challenge", operation="GetKeys")
    with pytest.raises(ProviderAccessDeniedError):
        await azure.check(timeout=SECONDS)


async def test_closing_twice_is_harmless_and_nothing_is_asked_afterwards(vault: AzureEmulator, tmp_path: Path) -> None:
    async with opened(vault, tmp_path) as provider:
        key = await make(provider)
        await provider.aclose()
        await provider.aclose()
        vault.reset_calls()
        with pytest.raises(ProviderUnavailableError):
            await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)
    assert not vault.calls
