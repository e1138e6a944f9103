"""Replicas that stop at each of their steps, a gatekeeper that kills or pauses them there, and verifiers that watch."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import jwt

from sealwright.v1.keys_pb2 import Key, ListKeysRequest, RevokeKeysRequest, RotateKeysRequest
from sealwright.v1.keys_pb2_grpc import KeyServiceStub
from sealwright.v1.signing_pb2 import SignJwtRequest
from sealwright.v1.signing_pb2_grpc import SigningServiceStub
from support.processes import Process, secrets_in

PATH = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
START = -1


class Replica:
    """A process at a time, which is started again when it has ended."""

    def __init__(self, directory: Path, config: str, gate: str) -> None:
        self._directory = directory
        self._command = (sys.executable, "-m", "faults.stepping", gate, "serve", "--config", config)
        self._closing = False
        self.process: Process | None = None
        self.ready: dict[str, Any] = {}
        self.stopped = False
        self.starts = 0
        self.problems: list[str] = []
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    @property
    def up(self) -> bool:
        """Whether it has announced its addresses and is not stopped."""
        return bool(self.ready) and not self.stopped

    @property
    def pid(self) -> int:
        """The process; START while there is none."""
        return self.process.popen.pid if self.process else START

    def _keep(self) -> None:
        while not self._closing:
            self.starts += 1
            command = (*self._command, "--log-level", "debug")
            process = self.process = Process(self._directory, *command, env={"PYTHONPATH": PATH})
            with contextlib.suppress(AssertionError):  # It was killed while it started.
                self.ready = process.wait_ready()
            status = process.popen.wait()
            self.ready, self.stopped = {}, False
            if process.popen.stdout:
                process.popen.stdout.close()
            text = process.log.read_text(errors="replace")
            self.problems += secrets_in(text)
            if status not in {0, -signal.SIGKILL} and not self._closing:
                self.problems.append(f"exit status {status}: {text[-2000:]}")
            if "Traceback" in text:
                self.problems.append(text[text.index("Traceback") - 300 :][:3000])

    def close(self) -> None:
        """End the process, and start no other."""
        self._closing = True
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGCONT)
            self.process.stop()
        self._thread.join(60)


class Gatekeeper:
    """Asks at each point what shall happen there.

    Attributes:
        seen: How often each point was reached.
        done: The points at which something has happened.
    """

    def __init__(self, path: Path, decide: Callable[[int, str], None]) -> None:
        self.path = str(path)
        self.seen: Counter[str] = Counter()
        self.done: list[str] = []
        self._decide = decide
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(self.path)
        self._server.listen(64)
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def todo(self) -> set[str]:
        """The points that were reached, and at which nothing has happened yet."""
        return set(self.seen) - set(self.done)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("r") as lines:
            pid = int(lines.readline())
            for line in lines:
                point = line.strip()
                self.seen[point] += 1
                self._decide(pid, point)
                connection.sendall(b".")

    def close(self) -> None:
        """Accept nothing more, and end the processes that are at a point."""
        self._server.shutdown(
            socket.SHUT_RDWR
        )  # This ends the thread that accepts. To close the socket would leave it there.
        self._server.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Fleet:
    """Replicas on one store.

    Attributes:
        replicas: The replicas.
        keeper: Whom they ask.
    """

    def __init__(self, directory: Path, configs: list[str], decide: Callable[[int, str], None]) -> None:
        self.keeper = Gatekeeper(directory / "gate", decide)
        self.replicas = []
        for number, config in enumerate(configs):
            logs = directory / f"logs{number}"
            logs.mkdir()
            self.replicas.append(Replica(logs, config, self.keeper.path))

    def of(self, pid: int) -> Replica | None:
        """Return the replica of a process."""
        return next((r for r in self.replicas if r.pid == pid), None)

    def up(self) -> list[Replica]:
        """Return the replicas that can be called."""
        return [r for r in self.replicas if r.up]

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Wait until something is so.

        Raises:
            AssertionError: It did not come to be in time.
        """
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{what}: {[r.ready for r in self.replicas]}"
            time.sleep(0.05)

    def close(self) -> list[str]:
        """End all processes. Return what was wrong with them."""
        for replica in self.replicas:
            replica.close()
        self.keeper.close()
        return [p for r in self.replicas for p in r.problems]


class Verifier:
    """Signs tokens at any replica, and verifies them as long as they are valid, with sets that are as old as they may be.

    Attributes:
        refused: Tokens that did not verify.
        verified: How many did.
        kids: Every kid that was ever in a set, by issuer.
    """

    def __init__(self, fleet: Fleet, issuers: list[str], max_age: float, seed: int = 0) -> None:
        self._fleet = fleet
        self._issuers = issuers
        self._max_age = max_age
        self._random = random.Random(seed)  # noqa: S311 - a test
        self._sets: dict[str, tuple[float, dict[str, Any]]] = {}
        self._live: list[tuple[float, str, str]] = []
        self._channels: dict[str, grpc.Channel] = {}
        self._end = threading.Event()
        self.refused: list[str] = []
        self.verified = 0
        self.failed: Counter[str] = Counter()
        self.kids: dict[str, set[str]] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Verify while the block runs."""
        self._thread.start()
        try:
            yield
        finally:
            self._end.set()
            self._thread.join(30)
            for channel in self._channels.values():
                channel.close()

    def _run(self) -> None:
        while not self._end.wait(0.1):
            for issuer in self._issuers:
                with contextlib.suppress(OSError):
                    self._sign(issuer)
                    self._look_again()

    def _channel(self, address: str) -> grpc.Channel:
        """Return the channel to an address. There is one for each start of a replica."""
        if address not in self._channels:
            self._channels[address] = grpc.insecure_channel(address)
        return self._channels[address]

    def _any(self) -> Replica | None:
        up = self._fleet.up()
        return self._random.choice(up) if up else None

    def _sign(self, issuer: str) -> None:
        replica = self._any()
        if replica is None:
            return
        try:
            request = SignJwtRequest(issuer=f"issuers/{issuer}", claims_json="{}")
            signed = SigningServiceStub(self._channel(replica.ready["grpc"])).SignJwt(request, timeout=1)
        except (grpc.RpcError, KeyError) as error:  # killed, stopped or just started
            code = error.code().name if isinstance(error, grpc.Call) else "gone"
            self.failed[f"{code}: {error.details() if isinstance(error, grpc.Call) else ''}"[:100]] += 1
            return
        self._verify(issuer, signed.token)
        self._live.append((signed.expire_time.ToNanoseconds() / 1e9, issuer, signed.token))

    def _look_again(self) -> None:
        """Verify, shortly before their end, the tokens that were signed earlier."""
        soon = time.time() + 0.3
        due = [t for t in self._live if t[0] <= soon]
        self._live = [t for t in self._live if t[0] > soon]
        for end, issuer, token in due:
            if time.time() < end - 0.1:
                self._verify(issuer, token)

    def _verify(self, issuer: str, token: str) -> None:
        kid = jwt.get_unverified_header(token)["kid"]
        keys = self._set(issuer)
        if kid not in keys:
            age = time.monotonic() - self._sets[issuer][0]
            self.refused.append(f"{issuer}: {kid} is not in a set that is {age:.2f} s old, at {time.time():.3f}")
            return
        jwt.decode(token, keys[kid], algorithms=["ES256"], options={"verify_exp": False, "verify_iat": False})
        self.verified += 1

    def _set(self, issuer: str) -> dict[str, Any]:
        """Return a set from any replica. It is used for `max_age`."""
        fetched, keys = self._sets.get(issuer, (0.0, {}))
        if time.monotonic() - fetched < self._max_age and keys:
            return keys
        began = time.monotonic()
        replica = self._any()
        if replica is None:
            raise ConnectionError
        url = f"http://{replica.ready.get('http')}/{issuer}/.well-known/jwks.json"
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                found = jwt.PyJWKSet.from_dict(json.loads(answer.read()))
        except ValueError as error:
            raise ConnectionError from error
        keys = {k.key_id: k.key for k in found.keys if k.key_id}
        self._sets[issuer] = (began, keys)
        self.kids.setdefault(issuer, set()).update(keys)
        return keys


def rotate(replica: Replica, issuer: str) -> None:
    """Rotate by hand, which is refused as long as the standby is not ready."""
    with contextlib.suppress(grpc.RpcError, KeyError), grpc.insecure_channel(replica.ready["grpc"]) as channel:
        KeyServiceStub(channel).RotateKeys(RotateKeysRequest(issuer=f"issuers/{issuer}"), timeout=2)


def revoke(replica: Replica, issuer: str) -> None:
    """Revoke the active key of an issuer, if the replica lives on that long."""
    with contextlib.suppress(grpc.RpcError, KeyError), grpc.insecure_channel(replica.ready["grpc"]) as channel:
        stub = KeyServiceStub(channel)
        keys = stub.ListKeys(ListKeysRequest(parent=f"issuers/{issuer}", page_size=1000), timeout=2).keys
        for key in keys:
            if key.state == Key.STATE_ACTIVE:
                stub.RevokeKeys(RevokeKeysRequest(name=key.name, reason="a drill"), timeout=8)
