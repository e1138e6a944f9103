from __future__ import annotations

import pytest

from providers.gcp.gcp_support import ES256, SCHEME, SECONDS, make, name_of
from sealwright.errors import ProviderKeyDisabledError, ProviderUnsupportedError
from sealwright_providers.gcp.names import INTENT, KeyRing, key_id, labels
from sealwright_providers.gcp.provider import GcpProvider
from sealwright_testing.emulators.gcp import GcpEmulator

RING = KeyRing("my-project", "europe-west1", "tokens")
VERSION = f"{SCHEME}{RING.name}/cryptoKeys/k/cryptoKeyVersions/12"


def test_a_pinned_uri_is_the_name_of_a_version() -> None:
    assert RING.pinned(VERSION) == VERSION.removeprefix(SCHEME)
    assert RING.resolvable(VERSION) == VERSION.removeprefix(SCHEME)


@pytest.mark.parametrize(
    "uri",
    [
        VERSION.replace("my-project", "other"),
        VERSION.replace("europe-west1", "global"),
        VERSION.replace("tokens", "other"),
        VERSION.replace("tokens", "tokens/../other"),
        VERSION.replace(SCHEME, "gcp-kms://"),
        VERSION.replace(SCHEME, ""),
        VERSION + "0" * 10,
        VERSION.replace("/12", "/0"),
        VERSION.replace("/12", "/"),
        VERSION + "\n",
        VERSION + "/x",
        VERSION.replace("/k/", "//"),
        VERSION.replace("/k/", "/" + "k" * 64 + "/"),
        VERSION.replace("cryptoKeyVersions", "versions"),
        "",
    ],
)
def test_a_uri_outside_the_key_ring_is_refused(uri: str) -> None:
    for check in (RING.pinned, RING.resolvable):
        with pytest.raises(ProviderUnsupportedError) as refused:
            check(uri)
        assert "projects/" not in str(refused.value)


async def test_c54_a_uri_without_a_version_does_not_sign(provider: GcpProvider, emulator: GcpEmulator) -> None:
    key = await make(provider)
    emulator.reset_calls()
    crypto_key = key.uri.partition("/cryptoKeyVersions/")[0]
    for call in (
        provider.sign(crypto_key, ES256, b"a.b", timeout=SECONDS),
        provider.disable(crypto_key, timeout=SECONDS),
        provider.schedule_deletion(crypto_key, timeout=SECONDS),
    ):
        with pytest.raises(ProviderUnsupportedError, match=r"names no version.*cryptoKeyVersions"):
            await call
    assert emulator.calls == {}


async def test_c54_a_uri_without_a_version_is_resolved_if_exactly_one_is_enabled(
    provider: GcpProvider, emulator: GcpEmulator
) -> None:
    key = await make(provider)
    crypto_key = key.uri.partition("/cryptoKeyVersions/")[0]
    assert (await provider.describe(crypto_key, timeout=SECONDS)).uri == key.uri
    with emulator.store.lock:
        parent = emulator.store.key(crypto_key.removeprefix(SCHEME))
        second = emulator.store.add_version(
            parent, emulator._version(name_of(key)).material, pending_seconds=0, failed=False
        )
    with pytest.raises(ProviderUnsupportedError, match="2 enabled versions: end the URI"):
        await provider.describe(crypto_key, timeout=SECONDS)
    emulator.set_state(name_of(key), "DISABLED")
    assert (await provider.describe(crypto_key, timeout=SECONDS)).uri == SCHEME + second.name
    emulator.set_state(second.name, "DESTROYED")
    with pytest.raises(ProviderUnsupportedError, match="0 enabled versions"):
        await provider.describe(crypto_key, timeout=SECONDS)


@pytest.mark.parametrize(
    "state", ["PENDING_GENERATION", "DISABLED", "DESTROY_SCHEDULED", "DESTROYED", "GENERATION_FAILED"]
)
async def test_c54_a_version_that_is_not_enabled_does_not_sign(
    provider: GcpProvider, emulator: GcpEmulator, state: str
) -> None:
    key = await make(provider)
    emulator.set_state(name_of(key), state)
    for call in (
        provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS),
        provider.describe(key.uri, timeout=SECONDS),
    ):
        with pytest.raises(ProviderKeyDisabledError):
            await call


def test_a_key_is_named_after_its_intent() -> None:
    intent = "0191e2a4-7b1c-7def-8123-456789abcdef"
    assert key_id({INTENT: intent}) == f"sealwright-{intent}"
    assert key_id({INTENT: "a/b"}) == key_id({INTENT: "a/b"}) != key_id({INTENT: "a/c"})
    assert len(key_id({INTENT: "x" * 500})) <= 63
    assert key_id({}) != key_id({})


def test_tags_become_labels_that_google_accepts() -> None:
    made = labels({"sealwright:intent": "abc", "Team": "Payments & Co", "team2": "", "x": "y" * 64})
    assert made["sealwright-intent"] == "abc"
    assert made["team2"] == ""
    assert all(len(v) <= 63 and v == v.lower() for v in made.values())
    assert labels({"t": "A"}) != labels({"t": "a"}) != labels({"t": "B"})
