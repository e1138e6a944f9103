"""`sealwright serve` is killed at each call by which it creates keys. Then each intent has one key, and no key is left over."""

from __future__ import annotations

import json
import os
import subprocess
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import grpc
import pytest

from faults.crashing import Backend, FoundKey, OfToken, Point, backend, identity, wait_for
from sealwright.keys.lifecycle import QUEUE_LENGTH
from sealwright.v1.keys_pb2 import ListKeysRequest
from sealwright.v1.keys_pb2_grpc import KeyServiceStub
from sealwright.v1.signing_pb2 import SignJwtRequest
from sealwright.v1.signing_pb2_grpc import SigningServiceStub
from sealwright_testing.softhsm import softhsm_module
from support.document import CREDENTIALS, document, issuer, series
from support.four_providers import PROVIDERS, faulty_module
from support.processes import BIN, Process, process, write_config

AT_ONCE = 7
"""Cases at once: they mostly wait for the claims of killed processes to expire."""
FINDING: dict[str, tuple[str, ...]] = {
    "aws": ("ListKeys", "ListResourceTags", "DescribeKey", "GetPublicKey"),
    "gcp": ("GetCryptoKey", "ListCryptoKeyVersions", "GetCryptoKeyVersion", "GetPublicKey"),
    "azure": ("GetKeyVersions", "GetKey"),
}
"""The calls by which the key of an intent is found again, and described."""
CRASHES: dict[str, tuple[tuple[Point, ...], ...]] = {
    "aws": (
        (Point("CreateKey", after=True), *(Point(call) for call in FINDING["aws"])),
        (Point("CreateKey"),),
        (Point("CreateKey", both=False),),
        (Point("CreateKey", after=True),),
        (Point("CreateKey", after=True, both=False),),
        (Point("GetPublicKey"),),
        (Point("GetPublicKey", after=True, both=False),),
        (Point("Sign"),),
        (Point("CreateKey", after=True), Point("Sign", after=True, both=False)),
    ),
    "gcp": (
        (Point("CreateCryptoKey", after=True), *(Point(call) for call in FINDING["gcp"])),
        (Point("CreateCryptoKey"),),
        (Point("CreateCryptoKey", after=True),),
        (Point("CreateCryptoKey", after=True, both=False),),
        (Point("GetCryptoKeyVersion"),),
        (Point("GetPublicKey", both=False),),
        (Point("AsymmetricSign"),),
        (Point("CreateCryptoKey", after=True), Point("AsymmetricSign", after=True, both=False)),
    ),
    "azure": (
        (Point("CreateKey", after=True), *(Point(call) for call in FINDING["azure"])),
        (Point("Token"),),
        (Point("CreateKey"),),
        (Point("CreateKey", after=True),),
        (Point("CreateKey", after=True, both=False),),
        (Point("GetKey"),),
        (Point("Sign"),),
        (Point("CreateKey", after=True), Point("Sign", after=True, both=False)),
    ),
    "pkcs11": (
        (Point("GENERATE_KEY_PAIR", after=True, number=2), *(Point("FIND_OBJECTS_INIT", number=n) for n in (1, 3))),
        (Point("OPEN_SESSION", after=True),),
        (Point("LOGIN", after=True),),
        (Point("GENERATE_KEY_PAIR"),),
        (Point("GENERATE_KEY_PAIR", after=True),),
        (Point("GENERATE_KEY_PAIR", number=2),),
        (Point("GENERATE_KEY_PAIR", after=True, number=2),),
        (Point("FIND_OBJECTS_INIT"),),
        (Point("SIGN_INIT"),),
        (Point("SIGN", after=True, number=2),),
    ),
}
"""Each case is a row of crashes, one process after the other. The longest comes first."""


class Case:
    """A store and a backend, and processes that use them."""

    def __init__(self, provider: str, directory: Path, at: Backend) -> None:
        self._directory = directory
        self._backend = at
        one = issuer("payments", series=[series("ES256", provider=provider)])
        # An intent is taken over from a process that was killed after three times this time.
        tables = {provider: {**at.settings, "manage_timeout": "500ms"}}
        self._config = write_config(directory, document(directory, "", one, providers=tables))

    def start(self) -> Process:
        """Start a process, and do not wait for it."""
        return Process(self._directory, "sealwright", "serve", "--config", self._config, env=self._backend.environment)

    def crash(self, points: Sequence[Point]) -> None:
        """Kill one process after the other."""
        for point in points:
            self._backend.crash(self.start, point)

    def orphans(self) -> dict[str, Any]:
        """Return what `sealwright keys orphans` finds."""
        done = subprocess.run(  # noqa: S603 - our own program
            [str(BIN / "sealwright"), "keys", "orphans", "--config", self._config, "--output", "json"],
            env={**os.environ, **CREDENTIALS, **self._backend.environment},
            capture_output=True,
            check=False,
        )
        listed: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == int(any(listed["orphans"].values())), done.stderr
        return listed

    def recover(self) -> list[FoundKey]:
        """Do as `recovered`, and check that every enabled key is published."""
        found, known = self.recovered()
        enabled = [k for k in found if k.enabled]
        assert sorted(k.uri for k in enabled) == sorted(known), found
        assert len({k.intent for k in enabled}) == QUEUE_LENGTH, found
        return found

    def recovered(self) -> tuple[list[FoundKey], set[str]]:
        """Start a process that nothing disturbs, and return all keys of the backend and the published ones."""
        command = ("sealwright", "serve", "--config", self._config)
        with (
            process(self._directory, *command, env=self._backend.environment) as service,
            grpc.insecure_channel(service.ready["grpc"]) as channel,
        ):
            known: list[Any] = []

            def complete() -> bool:
                known[:] = KeyServiceStub(channel).ListKeys(ListKeysRequest(parent="issuers/payments"), timeout=5).keys
                return len(known) >= QUEUE_LENGTH

            wait_for(complete, service)
            signed = SigningServiceStub(channel).SignJwt(SignJwtRequest(issuer="issuers/payments", claims_json="{}"))
            assert signed.kid in {k.kid for k in known}
        assert len(known) == QUEUE_LENGTH
        return self._backend.keys(), {identity(k.key_uri) for k in known}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_c59_a_process_killed_at_any_call_of_a_creation_leaves_one_key_for_each_intent(
    tmp_path: Path, provider: str
) -> None:
    module = faulty_module(tmp_path).path if provider == "pkcs11" else ""

    def run(number: int, points: Sequence[Point]) -> str:
        directory = tmp_path / str(number)
        directory.mkdir()
        try:
            with backend(provider, directory, module, softhsm_module() or "") as at:
                case = Case(provider, directory, at)
                case.crash(points)
                found = case.recover()
                assert len(found) == QUEUE_LENGTH, found
        except Exception:  # noqa: BLE001 - all cases are reported together
            return f"{', '.join(map(str, points))}:\n{traceback.format_exc()}"
        return ""

    with ThreadPoolExecutor(AT_ONCE) as pool:
        problems = [p for p in pool.map(run, range(len(CRASHES[provider])), CRASHES[provider]) if p]
    assert not problems, "\n\n".join(problems)


def test_a_process_killed_while_softhsm_writes_a_key_creates_another(tmp_path: Path) -> None:
    """SoftHSM does not generate a key pair atomically. What it leaves behind cannot sign, and must not disturb the next process."""
    module = faulty_module(tmp_path).path
    with backend("pkcs11", tmp_path, module, softhsm_module() or "") as at:
        assert isinstance(at, OfToken)
        case = Case("pkcs11", tmp_path, at)
        at.tear(case.start)
        assert len(case.recover()) == QUEUE_LENGTH


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_c59_f12_of_two_keys_of_an_intent_none_is_used_or_deleted_despite_a_crash(
    tmp_path: Path, *, after: bool
) -> None:
    with backend("aws", tmp_path, "", "") as at:
        case = Case("aws", tmp_path, at)
        case.crash([Point("CreateKey", after=True)])
        first = at.keys()[0]
        repeat_creation(at, first)
        case.crash([Point("ListKeys", after=after)])
        found, known = case.recovered()
        suspects = [k for k in found if k.intent == first.intent]
        assert [k.enabled for k in suspects] == [True, True]
        assert not {k.uri for k in suspects} & known
        assert len(known) == QUEUE_LENGTH
        listed = case.orphans()
        assert listed["orphans"] == {"aws": sorted(k.uri for k in suspects)}


def repeat_creation(at: Backend, key: FoundKey) -> None:
    """Create a key with the tags of another one, as a proxy does that repeats a request."""
    client = boto3.client("kms", endpoint_url=at.settings["endpoint_url"], region_name=at.settings["region"])
    tags = client.list_resource_tags(KeyId=key.uri.removeprefix("awskms:///"))["Tags"]
    client.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY", Tags=tags)
    client.close()
