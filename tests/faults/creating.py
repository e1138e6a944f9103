"""Clouds that answer creations late, twice, half or not at all, and what the service makes of them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3

from faults.crashing import INTENT, FoundKey, OfEmulator, backend
from sealwright_testing.emulators.aws import AwsEmulator
from sealwright_testing.emulators.azure import AzureEmulator
from sealwright_testing.emulators.azure import signing as azure_signing
from sealwright_testing.emulators.azure.keys import KeyVersion
from sealwright_testing.emulators.gcp import GcpEmulator
from support.document import document, issuer, series

CLOUDS = ("aws", "gcp", "azure")
CREATE = {"aws": "CreateKey", "gcp": "CreateCryptoKey", "azure": "CreateKey"}
READS = {"aws": ("GetPublicKey", "DescribeKey"), "gcp": ("GetCryptoKeyVersion", "GetPublicKey"), "azure": ("GetKey",)}
SEARCHES = {"aws": "ListKeys", "gcp": "GetCryptoKey", "azure": "GetKeyVersions"}
SIGN = {"aws": "Sign", "gcp": "AsymmetricSign", "azure": "Sign"}
DENIED: dict[str, dict[str, Any]] = {
    "aws": {"kind": "error", "type": "AccessDeniedException"},
    "gcp": {"kind": "error", "code": "PERMISSION_DENIED"},
    "azure": {"kind": "deny"},
}
MISSING: dict[str, dict[str, Any]] = {
    "aws": {"kind": "error", "type": "NotFoundException"},
    "gcp": {"kind": "error", "code": "NOT_FOUND"},
    "azure": {"kind": "error", "status": 404, "code": "KeyNotFound"},
}
LOST: dict[str, dict[str, Any]] = {
    "aws": {"kind": "drop_connection", "after": True},
    "gcp": {"kind": "unavailable", "after": True},
    "azure": {"kind": "drop_connection", "after": True},
}
HALF: dict[str, dict[str, Any]] = {
    "aws": {"kind": "malformed_json"},
    "gcp": {"kind": "malformed"},
    "azure": {"kind": "malformed_json"},
}
SLOW: dict[str, dict[str, Any]] = {name: {"kind": "delay", "seconds": 4.0, "after": True} for name in CLOUDS}
"""The answer comes after `manage_timeout`."""
THROTTLED: dict[str, dict[str, Any]] = {name: {"kind": "throttle"} for name in CLOUDS}


class Cloud:
    """One emulated cloud, and a configuration of one issuer whose keys are there."""

    def __init__(self, provider: str, directory: Path, at: OfEmulator) -> None:
        self.provider = provider
        self.directory = directory
        self.emulator = at._emulator
        self._at = at

    def document(self, manage_timeout: str = "3s", **more: Any) -> dict[str, Any]:
        """Return a configuration."""
        one = issuer("payments", series=[series("ES256", provider=self.provider, **more)])
        table = {**self._at.settings, "manage_timeout": manage_timeout}
        return document(self.directory, "", one, providers={self.provider: table})

    def arm(self, fault: dict[str, Any], *operations: str, **more: Any) -> None:
        """Let operations fail."""
        for operation in operations:
            self.emulator.add_fault(operation=operation, **fault, **more)

    def calls(self, operation: str) -> int:
        """Return how often an operation was called."""
        return self.emulator.calls.get(operation, 0)

    @property
    def created(self) -> int:
        """How often the service asked for a key."""
        return self.calls(CREATE[self.provider])

    def found(self) -> list[FoundKey]:
        """Return all keys."""
        return self._at.keys()

    def enabled(self) -> list[str]:
        """Return the URIs of the keys whose deletion is not scheduled."""
        return sorted(k.uri for k in self.found() if k.enabled)

    def copy_tags(self, key: FoundKey) -> None:
        """Create another key with the tags of a key, as somebody else in the account can."""
        emulator = self.emulator
        if isinstance(emulator, AwsEmulator):
            client = boto3.client("kms", endpoint_url=emulator.endpoint, region_name=emulator.region)
            tags = client.list_resource_tags(KeyId=key.uri.removeprefix("awskms:///"))["Tags"]
            client.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY", Tags=tags)
            client.close()
        elif isinstance(emulator, GcpEmulator):
            emulator.add_version(key.uri.removeprefix("gcpkms://").rpartition("/cryptoKeyVersions/")[0])
        else:
            assert isinstance(emulator, AzureEmulator)
            (held,) = emulator.vault.keys.all_versions(key.uri.split("/")[-2])
            emulator.vault.keys.add(
                KeyVersion(
                    name=held.name,
                    kind=held.kind,
                    material=azure_signing.like(held.material),
                    curve=held.curve,
                    operations=held.operations,
                    created=held.created,
                    updated=held.updated,
                    tags=dict(held.tags),
                )
            )

    def mark_imported(self, key: FoundKey) -> None:
        """Have a key say that its material was imported, or may be exported."""
        emulator = self.emulator
        if isinstance(emulator, AwsEmulator):
            emulator.mark_imported(key.uri.removeprefix("awskms:///"))
        elif isinstance(emulator, GcpEmulator):
            emulator.mark_imported(key.uri.removeprefix("gcpkms://"))
        else:
            assert isinstance(emulator, AzureEmulator)
            emulator.mark_exportable(key.uri.split("/")[-2])

    def intents(self) -> list[dict[str, Any]]:
        """Return the rows of all intents, oldest first."""
        with contextlib.closing(sqlite3.connect(self.directory / "state.db")) as store:
            store.row_factory = sqlite3.Row
            return [dict(row) for row in store.execute("SELECT * FROM intents ORDER BY create_time, intent_id")]

    def age(self, seconds: float) -> None:
        """Let all intents that are not closed be older than they are."""
        change = round(seconds * 1e6)
        with contextlib.closing(sqlite3.connect(self.directory / "state.db")) as store:
            store.execute(
                "UPDATE intents SET asked_time = asked_time - ?, create_time = create_time - ?, claim_expire_time = 0 "
                "WHERE close_time IS NULL",
                (change, change),
            )
            store.execute("UPDATE issuers SET revision = revision + 1")
            store.execute("UPDATE deployment SET revision = revision + 1")
            store.commit()


@contextlib.contextmanager
def cloud(provider: str, directory: Path) -> Iterator[Cloud]:
    """Start a cloud."""
    with backend(provider, directory, "", "") as at:
        assert isinstance(at, OfEmulator)
        yield Cloud(provider, directory, at)


def uris(keys: Sequence[Any]) -> list[str]:
    """Return the URIs of keys, as ListKeys returns them."""
    return sorted(k.key_uri for k in keys)


__all__ = ["CLOUDS", "INTENT", "Cloud", "cloud", "uris"]
