"""CPU of a signature through Sealwright, against the bare client library of each KMS in the same run.

`.venv/bin/python benchmarks/providers.py [--seconds 3] [--rounds 5] [--concurrency 64] [--only gcp]` prints a table. The fake KMS
(`fast_kms.py`, over TLS; for PKCS#11 a token of SoftHSM), the service, the bare client and the load each have a process of their
own. Rounds alternate between the bare client and the service, and the table shows medians, because machines are noisy. CPU is user
and system time of the process with the bare client, and of the service's process. A ratio above 1 means that Sealwright, with gRPC,
policy, verification and a durable audit record, costs less than calling the KMS from an application with its vendor's client.

The bare clients are used as their documentation shows: boto3 with 16 threads and without awscrt, Google's asyncio client
(`KeyManagementServiceAsyncClient`) with the credentials of a service account, Azure's asyncio `CryptographyClient` on one session,
and python-pkcs11 in one thread. SoftHSM signs in the caller's process, so there the algorithm is RS256, where the signature itself
is the larger part.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import uvloop
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from benchmark_load import CLAIMS, Round, measure

from sealwright.v1.signing_pb2 import SignJwtRequest
from support.document import CREDENTIALS, document, issuer
from support.processes import process, write_config

FAST_KMS = Path(__file__).with_name("fast_kms.py")
DIGEST = hashlib.sha256(b"header.payload").digest()
AWS_ALGORITHMS = {"ES256": "ECDSA_SHA_256", "RS256": "RSASSA_PKCS1_V1_5_SHA_256"}
CONNECT_SECONDS = 0.3
Settings = dict[str, Any]


@dataclass(frozen=True)
class Backend:
    """A KMS to measure.

    Attributes:
        algorithm: JWS algorithm of the signature.
        command: The command that runs it.
        settings: Returns the provider's table, given the emulator's line and a directory.
        bare: Signs for some seconds with the bare client, given the table, a key URI, the algorithm and the concurrency; returns
            the CPU of a signature in µs, without what the client needs to start and to connect.
        environment: Variables that the service and the bare client need.
    """

    algorithm: str
    command: tuple[str, ...]
    settings: Callable[[Mapping[str, str], Path], Settings]
    bare: Callable[[Settings, str, str, float, int], float]
    environment: Callable[[Mapping[str, str]], dict[str, str]] = lambda _ready: {}


def timed(work: Callable[[float], int], seconds: float) -> float:
    """Let it work for a while, and then measure it for so many seconds: µs of CPU of this process, each time it was done."""
    work(CONNECT_SECONDS)
    before = time.process_time()
    done = work(seconds)
    return (time.process_time() - before) / done * 1e6


async def repeat(sign: Callable[[], Any], seconds: float, concurrency: int) -> float:
    """Keep that many calls in flight, and return what `timed` does."""
    await _repeat(sign, CONNECT_SECONDS, concurrency)
    before = time.process_time()
    done = await _repeat(sign, seconds, concurrency)
    return (time.process_time() - before) / done * 1e6


async def _repeat(sign: Callable[[], Any], seconds: float, concurrency: int) -> int:
    end, done = time.perf_counter() + seconds, 0

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await sign()
            done += 1

    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return done


def bare_aws(table: Settings, uri: str, algorithm: str, seconds: float, concurrency: int) -> float:
    """Sign with boto3, with the 16 threads that suit it best, or one call at a time."""
    import boto3  # noqa: PLC0415 - each client is imported in its own process

    client = boto3.client("kms", region_name=table["region"], endpoint_url=table["endpoint_url"])
    arn = uri.removeprefix("awskms:///")
    count = min(concurrency, 16)

    def work(end: float) -> int:
        done = 0
        while time.perf_counter() < end:
            client.sign(KeyId=arn, Message=DIGEST, MessageType="DIGEST", SigningAlgorithm=AWS_ALGORITHMS[algorithm])
            done += 1
        return done

    with ThreadPoolExecutor(count) as threads:

        def together(time_left: float) -> int:
            end = time.perf_counter() + time_left
            return sum(f.result() for f in [threads.submit(work, end) for _ in range(count)])

        return timed(together, seconds)


def bare_gcp(table: Settings, uri: str, _algorithm: str, seconds: float, concurrency: int) -> float:
    """Sign with the asyncio client, with checksums as Google's documentation asks for them."""
    os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = table["ca_file"]
    import google_crc32c  # noqa: PLC0415
    from google.api_core.client_options import ClientOptions  # noqa: PLC0415
    from google.cloud import kms_v1  # noqa: PLC0415
    from google.oauth2 import service_account  # noqa: PLC0415

    name, crc = uri.removeprefix("gcpkms://"), google_crc32c.value(DIGEST)

    async def run() -> float:
        account: Any = service_account.Credentials
        credentials = account.from_service_account_file(table["credentials_file"])
        client = kms_v1.KeyManagementServiceAsyncClient(
            credentials=credentials, client_options=ClientOptions(api_endpoint=table["endpoint"])
        )

        async def sign() -> None:
            request = kms_v1.AsymmetricSignRequest(name=name, digest={"sha256": DIGEST}, digest_crc32c=crc)
            answer = await client.asymmetric_sign(request=request)
            if not answer.verified_digest_crc32c or answer.signature_crc32c != google_crc32c.value(answer.signature):
                raise SystemExit("a checksum is wrong")

        return await repeat(sign, seconds, concurrency)

    return uvloop.run(run())


def bare_azure(table: Settings, uri: str, _algorithm: str, seconds: float, concurrency: int) -> float:
    """Sign with the asyncio client on one session, whose connections are reused."""
    import ssl  # noqa: PLC0415

    import aiohttp  # noqa: PLC0415
    from azure.core.pipeline.transport import AioHttpTransport  # noqa: PLC0415
    from azure.identity.aio import ClientSecretCredential  # noqa: PLC0415
    from azure.keyvault.keys.aio import KeyClient  # noqa: PLC0415
    from azure.keyvault.keys.crypto import SignatureAlgorithm  # noqa: PLC0415

    name, version = uri.rsplit("/", 2)[1:]
    secret = Path(table["client_secret_file"]).read_text().strip()

    async def run() -> float:
        context = ssl.create_default_context(cafile=table["ca_file"])
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, limit=100))
        async with AioHttpTransport(session=session, session_owner=True) as transport:
            credential = ClientSecretCredential(
                table["tenant_id"],
                table["client_id"],
                secret,
                authority=table["authority"],
                disable_instance_discovery=True,
                transport=transport,
            )
            keys = KeyClient(table["authority"], credential, transport=transport, verify_challenge_resource=False)
            client = keys.get_cryptography_client(name, key_version=version)
            await client.sign(SignatureAlgorithm.es256, DIGEST)
            return await repeat(lambda: client.sign(SignatureAlgorithm.es256, DIGEST), seconds, concurrency)

    return asyncio.run(run())


def bare_pkcs11(table: Settings, uri: str, _algorithm: str, seconds: float, _concurrency: int) -> float:
    """Sign with python-pkcs11 in one thread and one session."""
    import pkcs11  # noqa: PLC0415

    key_id = bytes.fromhex(uri.partition("id=")[2].partition(";")[0].replace("%", ""))
    token = pkcs11.lib(table["module"]).get_token(token_label=table["token_label"])
    with token.open(user_pin=Path(table["pin_file"]).read_text().strip()) as session:
        key = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, id=key_id)
        sign: Any = key.sign  # type: ignore[attr-defined] # the stubs do not know what a private key can do

        def work(time_left: float) -> int:
            end, done = time.perf_counter() + time_left, 0
            while time.perf_counter() < end:
                sign(b"header.payload", mechanism=pkcs11.Mechanism.SHA256_RSA_PKCS)
                done += 1
            return done

        return timed(work, seconds)


def fast(kind: str) -> tuple[str, ...]:
    """Return the command of a fast fake KMS."""
    return sys.executable, str(FAST_KMS), kind


def _azure_settings(ready: Mapping[str, str], directory: Path) -> Settings:
    secret = directory / "client-secret"
    secret.write_text("test")
    return {
        "kind": "azure",
        "vault_url": ready["vault_url"],
        "credential": "client_secret",
        "tenant_id": ready["tenant_id"],
        "client_id": ready["client_id"],
        "client_secret_file": str(secret),
        "authority": ready["endpoint"],
        "ca_file": ready["ca"],
    }


def _service_account(directory: Path) -> str:
    """Write the key of a service account that does not exist; the client signs its own tokens with it."""
    private = rsa.generate_private_key(65537, 2048)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    account = {
        "type": "service_account",
        "project_id": "sealwright-test",
        "private_key_id": "1",
        "private_key": pem,
        "client_email": "benchmark@sealwright-test.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": "https://localhost:1/token",
    }
    path = directory / "service-account.json"
    path.write_text(json.dumps(account))
    return str(path)


BACKENDS = {
    "aws": Backend(
        "ES256",
        fast("aws"),
        lambda ready, _directory: {"kind": "aws", "region": "eu-west-1", "endpoint_url": ready["endpoint"]},
        bare_aws,
        lambda ready: {"SSL_CERT_FILE": ready["ca"], "AWS_CA_BUNDLE": ready["ca"]},
    ),
    "gcp": Backend(
        "ES256",
        fast("gcp"),
        lambda ready, directory: {
            "kind": "gcp",
            "project": "sealwright-test",
            "location": "europe-west1",
            "key_ring": "tokens",
            "endpoint": ready["endpoint"].removeprefix("https://").replace("127.0.0.1", "localhost"),
            "ca_file": ready["ca"],
            "credentials_file": _service_account(directory),
        },
        bare_gcp,
    ),
    "azure": Backend("ES256", fast("azure"), _azure_settings, bare_azure),
    "pkcs11": Backend(
        "RS256",
        ("sealwright-emulator", "pkcs11"),
        lambda ready, _directory: {
            "kind": "pkcs11",
            "module": ready["module"],
            "token_label": ready["token_label"],
            "pin_file": ready["pin_file"],
        },
        bare_pkcs11,
        lambda ready: {"SOFTHSM2_CONF": ready["softhsm2_conf"]},
    ),
}
"""By kind of provider."""


def bare_cpu(  # noqa: PLR0917 - runs in another process
    kind: str, table: Settings, uri: str, algorithm: str, seconds: float, concurrency: int
) -> float:
    """Return the CPU of a signature with the bare client in this process, in µs."""
    os.environ.update(CREDENTIALS)
    return BACKENDS[kind].bare(table, uri, algorithm, seconds, concurrency)


@contextmanager
def running(kind: str) -> Iterator[tuple[int, str, Settings, str]]:
    """Run a backend and the service. Yield its process, its address, the provider's table and the URI of the signing key."""
    import grpc  # noqa: PLC0415

    from sealwright.v1.keys_pb2 import ListKeysRequest  # noqa: PLC0415
    from sealwright.v1.keys_pb2_grpc import KeyServiceStub  # noqa: PLC0415

    backend = BACKENDS[kind]
    with tempfile.TemporaryDirectory(prefix="sealwright-benchmark-") as folder:
        directory = Path(folder)
        with process(directory, *backend.command) as kms:
            table = backend.settings(kms.ready, directory)
            os.environ.update(backend.environment(kms.ready))
            one = issuer("payments", backend.algorithm)
            one["series"][0]["provider"] = "measured"
            config = write_config(directory, document(directory, "", one, providers={"measured": table}))
            with process(directory, "sealwright", "serve", "--config", config) as service:
                with grpc.insecure_channel(service.ready["grpc"]) as channel:
                    found = KeyServiceStub(channel).ListKeys(ListKeysRequest(parent="issuers/payments"))
                yield service.popen.pid, service.ready["grpc"], table, found.keys[0].key_uri


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--only", choices=BACKENDS, action="append")
    options = parser.parse_args()
    request = SignJwtRequest(issuer="issuers/payments", claims_json=CLAIMS)
    print(f"{options.rounds} rounds of {options.seconds} s, {options.concurrency} calls in flight, medians; CPU in µs")
    print(f"{'':10}{'':8}{'bare':>8}{'service':>9}{'ratio':>8}{'req/s':>8}")
    for kind in options.only or BACKENDS:
        bare: list[float] = []
        rounds: list[Round] = []
        with running(kind) as (pid, address, table, uri):
            measure(pid, address, request, 0.5, options.concurrency)
            for _ in range(options.rounds):
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                    bare.append(
                        pool.submit(
                            bare_cpu, kind, table, uri, BACKENDS[kind].algorithm, options.seconds, options.concurrency
                        ).result()
                    )
                rounds.append(measure(pid, address, request, options.seconds, options.concurrency))
        cpu, rate = (statistics.median(getattr(r, f) for r in rounds) for f in ("cpu", "rate"))
        alone = statistics.median(bare)
        print(f"{kind:10}{BACKENDS[kind].algorithm:8}{alone:8.0f}{cpu:9.0f}{alone / cpu:8.2f}{rate:8.0f}", flush=True)


if __name__ == "__main__":
    main()
