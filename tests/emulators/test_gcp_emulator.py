"""The emulator of Google Cloud KMS under Google's own client: what Google's contract tests expect, and faults on demand."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import google_crc32c
import grpc
import pytest
import pytest_asyncio
from click.testing import CliRunner
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from google.api_core import exceptions
from google.cloud import kms_v1
from google.cloud.kms_v1.services.key_management_service.transports import (
    KeyManagementServiceGrpcAsyncIOTransport as Transport,
)

from sealwright_testing.__main__ import main
from sealwright_testing.emulators.gcp import Fault, FaultKind, GcpEmulator

Client = kms_v1.KeyManagementServiceAsyncClient
KINDS: Any = kms_v1.CryptoKeyVersion.CryptoKeyVersionAlgorithm
State = kms_v1.CryptoKeyVersion.CryptoKeyVersionState
PURPOSES: Any = kms_v1.CryptoKey.CryptoKeyPurpose
LOCATION = "projects/sealwright-test/locations/europe-west1"
DIGEST = b"d" * 32


@pytest.fixture
def gcp() -> Iterator[GcpEmulator]:
    with GcpEmulator() as running:
        yield running


@pytest_asyncio.fixture
async def kms(gcp: GcpEmulator) -> AsyncIterator[Client]:
    async with grpc.aio.insecure_channel(gcp.address) as channel:
        yield Client(transport=Transport(channel=channel))


async def call(kms: Client, method: str, **fields: Any) -> Any:
    """Call a method without the client's own retries."""
    return await getattr(kms, method)(request=fields, retry=None, timeout=10)


async def create(kms: Client, ring: str, name: str = "k", algorithm: str = "EC_SIGN_P256_SHA256", **more: Any) -> str:
    """Create a key, and return the name of its first version."""
    purpose = more.pop("purpose", "MAC" if algorithm.startswith("HMAC") else "ASYMMETRIC_SIGN")
    template = {"algorithm": KINDS[algorithm], "protection_level": more.pop("protection", "HSM")}
    key = {"purpose": PURPOSES[purpose], "version_template": template, **more}
    made = await call(kms, "create_crypto_key", parent=ring, crypto_key_id=name, crypto_key=key)
    return f"{made.name}/cryptoKeyVersions/1"


async def test_rings_keys_and_versions_are_created_read_and_listed_in_pages(kms: Client) -> None:
    ring = (await call(kms, "create_key_ring", parent=LOCATION, key_ring_id="more")).name
    with pytest.raises(exceptions.AlreadyExists):
        await call(kms, "create_key_ring", parent=LOCATION, key_ring_id="more")
    assert [r.name async for r in await kms.list_key_rings(parent=LOCATION)] == [ring, f"{LOCATION}/keyRings/tokens"]
    names = [await create(kms, ring, f"k{n}", labels={"team": "a" if n else "b"}) for n in range(5)]
    pages = await kms.list_crypto_keys(request={"parent": ring, "page_size": 2})
    assert [len(p.crypto_keys) async for p in pages.pages] == [2, 2, 1]
    found = await kms.list_crypto_keys(request={"parent": ring, "filter": "labels.team=b"})
    assert [k.name async for k in found] == [names[0].rpartition("/cryptoKeyVersions/")[0]]
    key = await call(kms, "get_crypto_key", name=names[0].rpartition("/cryptoKeyVersions/")[0])
    assert (key.labels["team"], key.destroy_scheduled_duration.days) == ("b", 30)
    second = await call(kms, "create_crypto_key_version", parent=key.name)
    assert (second.name.rpartition("/")[2], second.state) == ("2", State.PENDING_GENERATION)
    versions = [v async for v in await kms.list_crypto_key_versions(parent=key.name)]
    assert [v.state for v in versions] == [State.ENABLED, State.ENABLED]


async def test_a_signature_comes_with_its_checksums(gcp: GcpEmulator, kms: Client) -> None:
    name = await create(kms, gcp.ring)
    crc = google_crc32c.value(DIGEST)
    made = await call(kms, "asymmetric_sign", name=name, digest={"sha256": DIGEST}, digest_crc32c=crc)
    assert (made.name, made.verified_digest_crc32c, made.verified_data_crc32c) == (name, True, False)
    assert made.signature_crc32c == google_crc32c.value(made.signature)
    public = await call(kms, "get_public_key", name=name)
    assert public.pem_crc32c == google_crc32c.value(public.pem.encode())
    key: Any = load_pem_public_key(public.pem.encode())
    key.verify(made.signature, DIGEST, ec.ECDSA(Prehashed(hashes.SHA256())))
    unchecked = await call(kms, "asymmetric_sign", name=name, digest={"sha256": DIGEST})
    assert not unchecked.verified_digest_crc32c


async def test_data_is_accepted_for_ec_and_rsa_too(gcp: GcpEmulator, kms: Client) -> None:
    name = await create(kms, gcp.ring)
    made = await call(kms, "asymmetric_sign", name=name, data=b"data", data_crc32c=google_crc32c.value(b"data"))
    assert made.verified_data_crc32c
    key: Any = load_pem_public_key((await call(kms, "get_public_key", name=name)).pem.encode())
    key.verify(made.signature, b"data", ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize(
    "fields",
    [
        {"digest": {"sha384": b"d" * 48}},
        {"digest": {"sha256": b"d" * 31}},
        {"digest": {"sha256": DIGEST}, "data": b"x"},
        {"digest": {"sha256": DIGEST}, "digest_crc32c": 1},
        {"data": b"x", "data_crc32c": 1},
        {"data": b"x" * 65537},
        {},
    ],
)
async def test_c41_c46_what_does_not_fit_the_version_is_an_invalid_argument(
    gcp: GcpEmulator, kms: Client, fields: dict[str, Any]
) -> None:
    name = await create(kms, gcp.ring)
    with pytest.raises(exceptions.InvalidArgument):
        await call(kms, "asymmetric_sign", name=name, **fields)


async def test_c41_ed25519_takes_data_only(gcp: GcpEmulator, kms: Client) -> None:
    name = await create(kms, gcp.ring, algorithm="EC_SIGN_ED25519")
    with pytest.raises(exceptions.InvalidArgument):
        await call(kms, "asymmetric_sign", name=name, digest={"sha256": DIGEST})
    assert len((await call(kms, "asymmetric_sign", name=name, data=b"data")).signature) == 64


async def test_names_purposes_and_states(gcp: GcpEmulator, kms: Client) -> None:
    name = await create(kms, gcp.ring)
    mac = await create(kms, gcp.ring, "mac", "HMAC_SHA256")
    for bad in ("", "x", name + "/x", name.replace("cryptoKeys", "keys")):
        with pytest.raises((exceptions.InvalidArgument, exceptions.NotFound)) as refused:
            await call(kms, "get_crypto_key_version", name=bad)
        assert isinstance(refused.value, exceptions.InvalidArgument)
    with pytest.raises(exceptions.NotFound):
        await call(kms, "get_crypto_key_version", name=name.replace("/1", "/2"))
    with pytest.raises(exceptions.FailedPrecondition):
        await call(kms, "mac_sign", name=name, data=b"x")
    with pytest.raises(exceptions.FailedPrecondition):
        await call(kms, "asymmetric_sign", name=mac, data=b"x")
    with pytest.raises(exceptions.FailedPrecondition):
        await call(kms, "get_public_key", name=mac)
    for state in ("PENDING_GENERATION", "DISABLED", "DESTROY_SCHEDULED", "DESTROYED"):
        gcp.set_state(name, state)
        with pytest.raises(exceptions.FailedPrecondition):
            await call(kms, "asymmetric_sign", name=name, digest={"sha256": DIGEST})


async def test_mac_keys_sign_and_verify(gcp: GcpEmulator, kms: Client) -> None:
    name = await create(kms, gcp.ring, algorithm="HMAC_SHA512")
    made = await call(kms, "mac_sign", name=name, data=b"data", data_crc32c=google_crc32c.value(b"data"))
    assert (len(made.mac), made.verified_data_crc32c) == (64, True)
    assert made.mac_crc32c == google_crc32c.value(made.mac)
    assert (await call(kms, "mac_verify", name=name, data=b"data", mac=made.mac)).success
    assert not (await call(kms, "mac_verify", name=name, data=b"other", mac=made.mac)).success


async def test_states_change_as_google_lets_them(gcp: GcpEmulator, kms: Client) -> None:
    name = await create(kms, gcp.ring)
    mask = {"paths": ["state"]}
    for state in (State.DISABLED, State.DISABLED, State.ENABLED):
        version = {"name": name, "state": state}
        assert (
            await call(kms, "update_crypto_key_version", crypto_key_version=version, update_mask=mask)
        ).state == state
    version = {"name": name, "state": State.DESTROYED}
    with pytest.raises(exceptions.InvalidArgument):
        await call(kms, "update_crypto_key_version", crypto_key_version=version, update_mask=mask)
    gone = await call(kms, "destroy_crypto_key_version", name=name)
    assert gone.state == State.DESTROY_SCHEDULED
    assert 29 < (gone.destroy_time - gone.create_time).total_seconds() / 86400 < 31
    with pytest.raises(exceptions.FailedPrecondition):
        await call(kms, "destroy_crypto_key_version", name=name)
    assert (await call(kms, "restore_crypto_key_version", name=name)).state == State.DISABLED
    await call(kms, "destroy_crypto_key_version", name=name)
    gcp.advance_clock(31 * 86400)
    assert (await call(kms, "get_crypto_key_version", name=name)).state == State.DESTROYED
    with pytest.raises(exceptions.FailedPrecondition):
        await call(kms, "restore_crypto_key_version", name=name)


@pytest.mark.parametrize(
    "more",
    [
        {"algorithm": "EC_SIGN_SECP256K1_SHA256", "protection": "SOFTWARE"},
        {"algorithm": "HMAC_SHA256", "purpose": "ASYMMETRIC_SIGN"},
        {"protection": "EXTERNAL"},
        {"labels": {"sealwright:intent": "x"}},
        {"labels": {"team": "Payments"}},
        {"name": "a/b"},
        {"destroy_scheduled_duration": {"seconds": 3600}},
    ],
)
async def test_keys_that_google_does_not_create(gcp: GcpEmulator, kms: Client, more: dict[str, Any]) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        await create(kms, gcp.ring, **more)
    assert gcp.versions == ()


async def test_post_quantum_keys_need_a_format(gcp: GcpEmulator, kms: Client) -> None:
    name = await create(kms, gcp.ring, algorithm="PQ_SIGN_ML_DSA_65")
    with pytest.raises(exceptions.InvalidArgument):
        await call(kms, "get_public_key", name=name)
    wanted = kms_v1.PublicKey.PublicKeyFormat.NIST_PQC
    public = await call(kms, "get_public_key", name=name, public_key_format=wanted)
    assert (public.pem, len(public.public_key.data)) == ("", 1952)
    assert public.public_key.crc32c_checksum == google_crc32c.value(public.public_key.data)
    assert len((await call(kms, "asymmetric_sign", name=name, data=b"data")).signature) == 3309


async def test_what_is_not_emulated_is_unimplemented(gcp: GcpEmulator, kms: Client) -> None:
    with pytest.raises(exceptions.MethodNotImplemented):
        await call(kms, "encrypt", name=f"{gcp.ring}/cryptoKeys/k", plaintext=b"x")


async def test_faults_that_fail(gcp: GcpEmulator, kms: Client) -> None:
    name = await create(kms, gcp.ring)
    for kind, expected in (
        ("throttle", exceptions.ResourceExhausted),
        ("unavailable", exceptions.ServiceUnavailable),
        ("error", exceptions.InternalServerError),
    ):
        gcp.add_fault(kind, operation="GetCryptoKeyVersion", times=1)
        with pytest.raises(expected):
            await call(kms, "get_crypto_key_version", name=name)
    assert (await call(kms, "get_crypto_key_version", name=name)).state == State.ENABLED
    assert gcp.calls["GetCryptoKeyVersion"] == 4
    assert [r.outcome for r in gcp.requests][-4:] == ["RESOURCE_EXHAUSTED", "UNAVAILABLE", "INTERNAL", "ok"]


async def test_a_hanging_call_ends_when_the_faults_are_cleared(gcp: GcpEmulator, kms: Client) -> None:
    name = await create(kms, gcp.ring)
    gcp.add_fault("hang", name=name)
    hanging = asyncio.ensure_future(call(kms, "get_crypto_key_version", name=name))
    await asyncio.sleep(0.1)
    assert not hanging.done()
    gcp.clear_faults()
    with pytest.raises(exceptions.ServiceUnavailable):
        await hanging


async def test_a_delay_and_a_lost_answer(gcp: GcpEmulator, kms: Client) -> None:
    gcp.add_fault("delay", seconds=0.2, operation="CreateCryptoKey", times=1)
    start = time.monotonic()
    await create(kms, gcp.ring, "one")
    assert time.monotonic() - start > 0.19
    gcp.add_fault("error", operation="CreateCryptoKey", code="UNAVAILABLE", after=True, times=1)
    with pytest.raises(exceptions.ServiceUnavailable):
        await create(kms, gcp.ring, "two")
    assert [v.name.split("/")[7] for v in gcp.versions] == ["one", "two"]


async def test_a_quota_is_per_second_and_per_kind(gcp: GcpEmulator, kms: Client) -> None:
    name = await create(kms, gcp.ring)
    gcp.set_quota("crypto", 1)
    calls = [call(kms, "asymmetric_sign", name=name, digest={"sha256": DIGEST}) for _ in range(10)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert 1 <= sum(not isinstance(r, Exception) for r in results) <= 3
    await call(kms, "get_crypto_key_version", name=name)
    gcp.set_quota("crypto", None)
    await call(kms, "asymmetric_sign", name=name, digest={"sha256": DIGEST})
    with pytest.raises(ValueError, match="no quota"):
        gcp.set_quota("nothing", 1)


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "delay"},
        {"kind": "hang", "times": 0},
        {"kind": "delay", "seconds": -1.0},
        {"kind": "error", "code": "NOT_A_CODE"},
    ],
)
def test_faults_that_make_no_sense(gcp: GcpEmulator, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"seconds|times|code"):
        gcp.add_fault(**options)
    with pytest.raises(KeyError):
        gcp.set_state("none", "DISABLED")


def test_a_fault_has_a_json_form() -> None:
    fault = Fault(kind=FaultKind.DELAY, seconds=1)
    assert fault.to_json() == {"kind": "delay", "operation": "*", "seconds": 1, "violation": "", "after": False}


async def test_tls_asks_for_a_bearer_token() -> None:
    with GcpEmulator(tls=True) as secure:
        credentials = grpc.ssl_channel_credentials(secure.ca)
        async with grpc.aio.secure_channel(secure.address, credentials) as channel:
            kms = Client(transport=Transport(channel=channel))
            with pytest.raises(exceptions.Unauthenticated):
                await call(kms, "get_key_ring", name=secure.ring)
            secure.accept_tokens("good")
            for token, works in (("bad", False), ("good", True)):
                metadata = (("authorization", f"Bearer {token}"),)
                try:
                    await kms.get_key_ring(name=secure.ring, retry=None, metadata=metadata)
                except exceptions.Unauthenticated:
                    assert not works
                else:
                    assert works


@contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    command = [sys.executable, "-m", "sealwright_testing", "gcp", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own command
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


async def test_the_command_prints_its_endpoint_serves_and_ends_with_0() -> None:
    with running("--key-ring", "r", "--project", "p-1", "--location", "global") as (process, line):
        assert list(line) == ["endpoint"]
        async with grpc.aio.insecure_channel(line["endpoint"].removeprefix("http://")) as channel:
            kms = Client(transport=Transport(channel=channel))
            ring = "projects/p-1/locations/global/keyRings/r"
            assert (await call(kms, "get_key_ring", name=ring)).name == ring
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 10) == 0


async def test_the_command_writes_its_ca_for_tls() -> None:
    with running("--tls") as (process, line):
        assert line["endpoint"].startswith("https://")
        ca = await asyncio.to_thread(Path(line["ca"]).read_bytes)
        credentials = grpc.ssl_channel_credentials(ca)
        async with grpc.aio.secure_channel(line["endpoint"].removeprefix("https://"), credentials) as channel:
            kms = Client(transport=Transport(channel=channel))
            with pytest.raises(exceptions.Unauthenticated):
                await call(kms, "get_key_ring", name=f"{LOCATION}/keyRings/tokens")
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 10) == 0


async def test_faults_keys_and_counts_are_controlled_over_http() -> None:
    with running("--control") as (_, line):
        assert list(line) == ["endpoint", "control"]
        async with (
            grpc.aio.insecure_channel(line["endpoint"].removeprefix("http://")) as channel,
            aiohttp.ClientSession() as http,
        ):
            kms = Client(transport=Transport(channel=channel))
            name = await create(kms, f"{LOCATION}/keyRings/tokens")

            async def ask(method: str, path: str, body: Any = None, status: int = 200) -> Any:
                async with http.request(method, f"{line['control']}/{path}", json=body) as answer:
                    assert answer.status == status
                    return await answer.json()

            assert [v["name"] for v in await ask("GET", "versions")] == [name]
            fault = {"kind": "throttle", "operation": "GetCryptoKeyVersion", "times": 1}
            assert (await ask("POST", "faults", [fault]))[0]["kind"] == "throttle"
            with pytest.raises(exceptions.ResourceExhausted):
                await call(kms, "get_crypto_key_version", name=name)
            assert await ask("GET", "faults") == []
            await ask("POST", "versions", {"name": name, "state": "DISABLED"})
            assert (await call(kms, "get_crypto_key_version", name=name)).state == State.DISABLED
            assert (await ask("GET", "calls"))["GetCryptoKeyVersion"] == 2
            await ask("POST", "calls/reset")
            assert await ask("GET", "calls") == {}
            await ask("POST", "clock", {"advance_seconds": 5})
            await ask("POST", "faults", {"kind": "hang"})
            assert await ask("DELETE", "faults") == []
            for path, body in (
                ("faults", {"kind": "none"}),
                ("faults", {"kind": "hang", "surplus": 1}),
                ("faults", 1),
                ("versions", {"name": "none", "state": "DISABLED"}),
                ("clock", {}),
            ):
                assert (await ask("POST", path, body, 400))["message"]


def test_a_port_in_use_is_reported_and_not_a_traceback() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = CliRunner().invoke(main, ["gcp", "--port", str(taken.getsockname()[1])])
    assert result.exit_code == 1
    assert "cannot listen on 127.0.0.1" in result.output
