"""`sealwright serve` as real processes on several hosts with one PostgreSQL, and their clients."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc

from sealwright.v1.keys_pb2 import Key, ListKeysRequest, RevokeKeysRequest
from sealwright.v1.keys_pb2_grpc import KeyServiceStub
from sealwright.v1.signing_pb2 import SignJwtRequest
from sealwright.v1.signing_pb2_grpc import SigningServiceStub
from sealwright_testing.emulators.aws import AwsEmulator
from support.document import CREDENTIALS, document, issuer
from support.four_providers import aws_settings
from support.processes import BIN, Process, require_no_secrets, write_config
from support.service import Failure
from support.waiting import eventually as eventually  # noqa: PLC0414 - others take it from here

SECONDS = 40
TIMING = {
    "max_clock_error": "500ms",
    "verifier_skew": "1s",
    "max_staleness": "3s",
    "max_serve_age": "60s",
    "refresh_interval": "100ms",
    "verifier_refresh": "0s",
}
"""With `configuration`: 2 (A + E) + K is 3 s."""


def configuration(
    directory: Path, url: str, providers: Mapping[str, AwsEmulator], *made: dict[str, Any], **more: Any
) -> dict[str, Any]:
    """Return the configuration of a host, for one issuer.

    Args:
        directory: Of the host; it is made.
        url: Of the store.
        providers: Their emulators, by name.
        made: The series of the issuer.
        more: Tables in place of others.
    """
    directory.mkdir(exist_ok=True)
    one = issuer(series=list(made), jwks={"max_age": "1s", "stale_if_error": "0s"})
    tables = {name: aws_settings(emulator) for name, emulator in providers.items()}
    return document(directory, "", one, **{"providers": tables, "timing": TIMING, "store": {"url": url}, **more})


class Cable:
    """The connection of one host to the database: a Unix socket in a directory of its own, which can be cut."""

    def __init__(self, target: Path) -> None:
        self._target = str(target / ".s.PGSQL.5432")
        self.directory = Path(tempfile.mkdtemp(prefix="swcable-", dir="/tmp"))
        self._cut = False
        self._links: list[socket.socket] = []
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(self.directory / ".s.PGSQL.5432"))
        self._server.listen(32)
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a store through this cable."""
        return f"postgresql://postgres@/{database}?host={self.directory}"

    def cut(self) -> None:
        """End all connections, and let no new one through."""
        self._cut = True
        self._end()

    def mend(self) -> None:
        """Let connections through again."""
        self._cut = False

    def close(self) -> None:
        """Stop."""
        self.cut()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        (self.directory / ".s.PGSQL.5432").unlink(missing_ok=True)
        self.directory.rmdir()

    def _end(self) -> None:
        links, self._links = self._links, []
        for link in links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                if self._cut:
                    near.close()
                    continue
                far = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                try:
                    far.connect(self._target)
                except OSError:  # the server is down
                    near.close()
                    far.close()
                    continue
                self._links += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=_pump, args=(one, other), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    source.close()


class Host:
    """A service on a host of its own, which can be started, stopped and paused.

    Attributes:
        directory: For its files.
        config: The path of its configuration.
        ready: Its addresses.
    """

    def __init__(self, directory: Path, document: dict[str, Any], env: dict[str, str] | None = None) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.env = env or {}
        self.configure(document)
        self.process: Process | None = None
        self.ready: dict[str, Any] = {}

    def configure(self, document: dict[str, Any]) -> None:
        """Write another configuration, for the next start."""
        self.document = document
        self.config = write_config(self.directory, document)

    def start(self) -> None:
        """Start it, and wait until it serves."""
        command = ("sealwright", "serve", "--config", self.config, "--log-level", "debug")
        self.process = Process(self.directory, *command, env=self.env)
        self.ready = self.process.wait_ready()

    def stop(self) -> None:
        """Stop it, however it is, and search its log for secrets."""
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.signal(signal.SIGCONT)
        process.stop()
        require_no_secrets(process.log.read_text(errors="replace"))

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.signal(number)

    @property
    def log(self) -> str:
        """What it has logged since its last start."""
        return "" if self.process is None else self.process.log.read_text(errors="replace")

    @contextlib.contextmanager
    def _channel(self) -> Iterator[grpc.Channel]:
        with grpc.insecure_channel(self.ready["grpc"]) as channel:
            yield channel

    def sign(self, timeout: float = 5, **more: Any) -> Any:
        """Sign a token; return the answer."""
        request = SignJwtRequest(issuer="issuers/payments", claims_json="{}", **more)
        with self._channel() as channel:
            return SigningServiceStub(channel).SignJwt(request, timeout=timeout)

    def reason(self, timeout: float = 5) -> str:
        """Return why it does not sign; empty: it does."""
        try:
            self.sign(timeout)
        except grpc.RpcError as error:
            return Failure(error).reason or str(error)  # type: ignore[arg-type]
        return ""

    def listed(self) -> list[Any]:
        """Return the keys of the issuer."""
        with self._channel() as channel:
            return list(KeyServiceStub(channel).ListKeys(ListKeysRequest(parent="issuers/payments"), timeout=5).keys)

    def active(self, series: str = "") -> Any:
        """Return the active key of a series, or of the first one."""
        return next(k for k in self.listed() if k.state == Key.STATE_ACTIVE and series in {"", k.series})

    def revoke(self, key: Any = None, *, provider: str = "", **more: Any) -> Any:
        """Revoke a key, or all of a provider; return the answer."""
        request = RevokeKeysRequest(name=key.name if key else "", provider=provider, reason="a test", **more)
        with self._channel() as channel:
            return KeyServiceStub(channel).RevokeKeys(request, timeout=30)

    def get(self, path: str) -> tuple[int, bytes]:
        """Make an HTTP request; return the status and the body. The status is 0 if nobody answers within 2 s."""
        try:
            with urllib.request.urlopen(f"http://{self.ready['http']}{path}", timeout=2) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def served(self) -> tuple[int, bytes]:
        """Return the status and the body of the JWK Set."""
        return self.get("/payments/.well-known/jwks.json")

    def kids(self) -> set[str]:
        """Return the kids of the JWK Set; none while it is not served."""
        status, body = self.served()
        return {k["kid"] for k in json.loads(body)["keys"]} if status == 200 else set()

    def command(self, *words: str) -> tuple[int, dict[str, Any]]:
        """Run `sealwright …` with its configuration; return the status and the output."""
        done = subprocess.run(  # noqa: S603 - our own program
            [str(BIN / "sealwright"), *words, "--config", self.config, "--output", "json"],
            env={**os.environ, **CREDENTIALS, **self.env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, json.loads(done.stdout)

    def replica_ids(self) -> set[str]:
        """Return the ids of this host's starts, from the names of its audit files."""
        return {p.name.partition(".")[0] for p in Path(self.document["audit"]["path"]).glob("*.jsonl")}


@contextlib.contextmanager
def started(*hosts: Host) -> Iterator[None]:
    """Start hosts side by side, and stop them in the end."""
    problems: list[BaseException] = []

    def start(host: Host) -> None:
        try:
            host.start()
        except BaseException as error:  # noqa: BLE001 - raised below
            problems.append(error)

    threads = [threading.Thread(target=start, args=(host,)) for host in hosts]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
        if problems:
            raise problems[0]
        yield
    finally:
        for host in hosts:
            host.stop()
