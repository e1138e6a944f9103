from __future__ import annotations

import pytest

from contract.azure_harness import foreign
from sealwright.errors import ProviderUnsupportedError
from sealwright_providers.azure.keys import key_name
from sealwright_providers.azure.uri import KeyName, KeyUris

HOST = "sealwright.vault.azure.net"
VERSION = "0123456789abcdef0123456789ABCDEF"
URIS = KeyUris(HOST)


def test_a_uri_with_a_version_is_pinned_and_one_without_can_be_resolved() -> None:
    uri = f"azurekms://{HOST}/keys/jwt-1/{VERSION}"
    assert URIS.pinned(uri) == URIS.resolvable(uri) == KeyName("jwt-1", VERSION)
    assert URIS.resolvable(f"azurekms://{HOST}/keys/jwt-1") == KeyName("jwt-1", None)
    assert URIS.pinned(f"azurekms://{HOST.upper()}/keys/jwt-1/{VERSION}").name == "jwt-1"


@pytest.mark.parametrize(
    "uri", [*foreign(HOST), "", "azurekms://", f"azurekms://{HOST}/keys/", f"azurekms://{HOST}/keys/a/"]
)
def test_what_is_outside_the_vault_is_neither_pinned_nor_resolved(uri: str) -> None:
    for read in (URIS.pinned, URIS.resolvable):
        with pytest.raises(ProviderUnsupportedError) as refused:
            read(uri)
        assert "sealwright" not in str(refused.value)


def test_c53_a_uri_without_a_version_is_not_pinned() -> None:
    with pytest.raises(ProviderUnsupportedError, match="version"):
        URIS.pinned(f"azurekms://{HOST}/keys/jwt")


def test_a_kid_of_key_vault_gives_a_uri_only_with_a_version() -> None:
    kid = f"https://{HOST}/keys/jwt/{VERSION}"
    assert URIS.of_kid(kid) == f"azurekms://{HOST}/keys/jwt/{VERSION}"
    assert URIS.of_kid(kid.rpartition("/")[0]) is None
    assert URIS.of_kid("http" + kid[5:]) is None


@pytest.mark.parametrize("intent", ["01945c8e-7f00-7000-8000-000000000000", "x" * 101, "UPPER", "a_b", "", "ä"])
def test_a_key_is_named_after_its_intent_with_what_azure_allows(intent: str) -> None:
    name = key_name({"sealwright:intent": intent})
    assert name == key_name({"sealwright:intent": intent, "more": "x"})
    assert name.startswith("sealwright-")
    assert URIS.resolvable(f"azurekms://{HOST}/keys/{name}").name == name
    assert name.lower() == name


def test_intents_that_differ_in_case_only_have_different_names() -> None:
    assert key_name({"sealwright:intent": "Ab"}) != key_name({"sealwright:intent": "ab"})
    assert key_name({}) != key_name({})
