"""A service on a fake KMS, in processes of their own, for every benchmark; and what its metrics say about the calls."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import grpc
import jwt
from benchmark_load import CLAIMS, cpu_seconds
from prometheus_client.parser import text_string_to_metric_families

from providers import BACKENDS
from sealwright.v1.keys_pb2 import ListKeysRequest
from sealwright.v1.keys_pb2_grpc import KeyServiceStub
from sealwright.v1.signing_pb2 import SignJwtRequest
from sealwright.v1.signing_pb2_grpc import SigningServiceStub
from support.document import document, issuer
from support.processes import Process, process, write_config

PATIENCE = 300.0
"""Seconds in which all keys must have been created."""
_FLUSHED = 0.1
"""Seconds after which every worker has handed over what it counted."""


@dataclass
class Service:
    """A running service on a fake KMS.

    Attributes:
        running: The service.
        kms: The fake KMS.
        table: The provider's table in the configuration.
        uris: The URI of a key by algorithm.
        started: Seconds from the start until it was ready, with its keys in the store.
        speeds: Tokens a second that it has reached, by kind of load.
    """

    running: Process
    kms: Process
    table: dict[str, Any]
    uris: dict[str, str]
    started: float
    speeds: dict[Any, float] = field(default_factory=dict)

    @property
    def pids(self) -> list[int]:
        """The processes whose CPU counts: the workers, and the supervisor if there is one."""
        children = Path(f"/proc/{self.running.popen.pid}/task/{self.running.popen.pid}/children").read_text().split()
        return [self.running.popen.pid, *map(int, children)]

    @property
    def address(self) -> str:
        """Where it serves gRPC."""
        return str(self.running.ready["grpc"])

    @property
    def jwks_url(self) -> str:
        """Where the JWK Set is."""
        return f"http://{self.running.ready['http']}/payments/.well-known/jwks.json"

    @property
    def memory(self) -> float:
        """The resident memory of the largest process, in MB."""
        return max(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids) * 4096 / 1e6

    def cpu(self) -> float:
        """Return the seconds of CPU that it has used."""
        return sum(map(cpu_seconds, self.pids))

    def idle(self, seconds: float) -> float:
        """Watch it while nobody calls. Return its CPU, in percent of a core."""
        before = self.cpu()
        time.sleep(seconds)
        return (self.cpu() - before) / seconds * 100

    def counts(self) -> Counter[str]:
        """Return how many RPCs ended with each status, as `code:OK`, and how many tokens were released, as `tokens`."""
        time.sleep(_FLUSHED)
        with urllib.request.urlopen(f"http://{self.running.ready['admin']}/metrics") as answer:
            text = answer.read().decode()
        found: Counter[str] = Counter()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "sealwright_rpcs_total":
                    found[f"code:{sample.labels['code']}"] += int(sample.value)
                elif sample.name == "sealwright_tokens_total":
                    found["tokens"] += int(sample.value)
        return found

    def verify_tokens(self, request: SignJwtRequest, count: int, pause: float = 0) -> int:
        """Sign with a client of gRPC, and verify each token as a stranger would. Return how often it was refused at first."""
        with urllib.request.urlopen(self.jwks_url) as answer:  # noqa: S310 - of our own service
            keys = jwt.PyJWKSet.from_dict(json.load(answer))
        refused = 0
        with grpc.insecure_channel(self.address) as channel:
            stub = SigningServiceStub(channel)
            while count:
                time.sleep(pause)
                try:
                    token = stub.SignJwt(request, timeout=10).token
                except grpc.RpcError as error:
                    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                        raise
                    refused += 1
                    continue
                key = keys[jwt.get_unverified_header(token)["kid"]]
                jwt.decode(token, key, [key.algorithm_name], options={"verify_aud": False})
                count -= 1
        return refused


@dataclass
class Asked:
    """What was asked of a service: calls of so many tokens each, and single tokens that were verified.

    Attributes:
        calls: Calls of the load.
        size: Tokens of each.
        sampled: Tokens of the sample.
        sample_refused: How often one of the sample was refused at first.
        refused: Calls of the load that the service refused because it had no CPU left.
    """

    calls: int = 0
    size: int = 1
    sampled: int = 0
    sample_refused: int = 0
    refused: int = 0

    @property
    def tokens(self) -> int:
        """The tokens of the load."""
        return (self.calls - self.refused) * self.size


@contextmanager
def answered(service: Service, *, refusable: float) -> Iterator[Asked]:
    """Check with the service's metrics how the calls of the block ended, and how many tokens were released.

    Args:
        service: The service.
        refusable: The share of the calls that the service may refuse, because it had no CPU left (docs/operations.md).

    Raises:
        SystemExit: The service counted something else than the block notes.
    """
    before, asked = service.counts(), Asked()
    yield asked
    made = service.counts() - before
    refused = made["code:RESOURCE_EXHAUSTED"] - asked.sample_refused
    if refused <= refusable * asked.calls:
        asked.refused = refused
        del made["code:RESOURCE_EXHAUSTED"]
    expected = Counter({"code:OK": asked.calls - asked.refused + asked.sampled, "tokens": asked.tokens + asked.sampled})
    if made != +expected:
        raise SystemExit(f"the service counted {dict(made)}, and {asked} were asked for")


def end_cleanly() -> None:
    """Let SIGTERM stop the processes that a benchmark has started, too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def sign_request(algorithm: str) -> SignJwtRequest:
    """Return a request."""
    return SignJwtRequest(issuer="issuers/payments", claims_json=CLAIMS, algorithm=algorithm)


@contextmanager
def service(kind: str, *algorithms: str, workers: int = 1, issuers: int = 1) -> Iterator[Service]:
    """Run a fake KMS and the service on it. The first issuer is `payments`, and each has a series for each algorithm."""
    backend = BACKENDS[kind]
    with tempfile.TemporaryDirectory(prefix="sealwright-bench-") as folder:
        directory = Path(folder)
        with process(directory, *backend.command) as kms:
            table = {**backend.settings(kms.ready, directory), "max_creations_per_minute": 100_000}
            os.environ.update(backend.environment(kms.ready))
            tables = [issuer("payments" if n == 0 else f"issuer-{n}", *algorithms) for n in range(issuers)]
            for series in (series for one in tables for series in one["series"]):
                series["provider"] = "measured"
            config = document(directory, "", *tables, providers={"measured": table}, timing={})
            config["server"]["workers"] = workers
            command = ("sealwright", "serve", "--log-level", "warning", "--config", write_config(directory, config))
            with process(directory, *command):
                _wait_for_keys(directory / "state.db", 2 * issuers * len(algorithms))
            start = time.monotonic()
            with process(directory, *command) as running:
                started = time.monotonic() - start
                with grpc.insecure_channel(running.ready["grpc"]) as channel:
                    keys = KeyServiceStub(channel).ListKeys(ListKeysRequest(parent="issuers/payments")).keys
                yield Service(running, kms, table, {k.algorithm: k.key_uri for k in keys}, started)


def _wait_for_keys(database: Path, count: int) -> None:
    """Wait until so many keys are in the store."""
    end = time.monotonic() + PATIENCE
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as store:
        while store.execute("SELECT count(*) FROM keys WHERE ready_time IS NOT NULL").fetchone()[0] < count:
            if time.monotonic() > end:
                raise SystemExit(f"{count} keys were not created in {PATIENCE:.0f} s")
            time.sleep(0.2)
