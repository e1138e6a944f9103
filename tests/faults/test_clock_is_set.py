"""F16: the clock of the machine is set while the real service runs, and while it is down (libfaketime)."""

from __future__ import annotations

import glob
import json
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from sealwright.v1 import keys_pb2, keys_pb2_grpc, signing_pb2, signing_pb2_grpc
from support.document import QUICK_TIMING, document, quick_issuer, tool_missing
from support.processes import Process, process, write_config
from support.waiting import eventually

SET = "/payments/.well-known/jwks.json"


class Wall:
    """The clock of the machine, as the service sees it. CLOCK_BOOTTIME and CLOCK_MONOTONIC stay right."""

    def __init__(self, directory: Path) -> None:
        library = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")  # noqa: PTH207 - an absolute pattern
        if not library:
            tool_missing("libfaketime")
        self.file = directory / "faketime"
        self.env = {
            "LD_PRELOAD": library[0],
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        self.set(0)

    def set(self, seconds: float) -> None:
        """Set it to the true time and so much."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{seconds:+.1f}\n")
        new.replace(self.file)


class Client:
    """Callers and verifiers of one start of the service."""

    def __init__(self, service: Process) -> None:
        self.addresses = service.ready
        self.log = service.log

    def sign(self) -> str:
        """Return the kid of a token, or the error."""
        with grpc.insecure_channel(self.addresses["grpc"]) as channel:
            request = signing_pb2.SignJwtRequest(issuer="issuers/payments", claims_json="{}")
            try:
                return str(signing_pb2_grpc.SigningServiceStub(channel).SignJwt(request, timeout=30).kid)
            except grpc.RpcError as error:
                return str(error.details())

    def rotate(self) -> str:
        """Rotate by hand; return the error, or nothing."""
        with grpc.insecure_channel(self.addresses["grpc"]) as channel:
            try:
                keys_pb2_grpc.KeyServiceStub(channel).RotateKeys(
                    keys_pb2.RotateKeysRequest(issuer="issuers/payments"), timeout=30
                )
            except grpc.RpcError as error:
                return str(error.details())
        return ""

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{self.addresses['http']}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def kids(self) -> set[str]:
        status, body = self.get(SET)
        assert status == 200
        return {k["kid"] for k in json.loads(body)["keys"]}


@contextmanager
def serving(directory: Path, config: dict[str, Any], wall: Wall) -> Iterator[Client]:
    with process(
        directory, "sealwright", "serve", "--config", write_config(directory, config), env=wall.env
    ) as service:
        yield Client(service)
        service.signal(signal.SIGKILL)


def says_jump(text: str, seconds: int) -> bool:
    """Return whether a text gives the jump, as exactly as a busy machine measures it."""
    found = re.search(r"jumped by ([+-][0-9]+) s", text)
    return found is not None and abs(int(found[1]) - seconds) <= 3


@pytest.mark.parametrize("jump", [7200, -7200, 60, -60, 10**8])
def test_f16_a_jump_signs_nothing_and_drops_nothing_until_the_clock_is_back(tmp_path: Path, jump: int) -> None:
    wall = Wall(tmp_path)
    with process(tmp_path, "sealwright-emulator", "aws", "--port", "0") as kms:
        config = document(tmp_path, kms.ready["endpoint"])
        with serving(tmp_path, config, wall) as client:
            assert client.rotate() == "", "the keys of the first set are ready at once"
            eventually(lambda: len(client.kids()) == 3)
            kid, kids = client.sign(), client.kids()
            assert kid in kids
            assert "not every verifier" in client.rotate(), "the third key is new"
            wall.set(jump)
            eventually(lambda: says_jump(client.sign(), jump))
            assert "jumped" in client.rotate()
            assert client.kids() == kids
            status, why = client.get("/readyz")
            assert status == 503
            assert says_jump(why, jump)
            assert client.get("/readyz/jwks")[0] == 200
            assert client.get("/healthz")[0] == 200
        with serving(tmp_path, config, wall) as client:  # killed, and started again while the clock is wrong
            assert says_jump(client.sign(), jump)
            assert client.kids() == kids
            wall.set(0)
            eventually(lambda: client.sign() == kid)
            assert "not every verifier" in client.rotate()
            assert client.kids() == kids
            eventually(lambda: "the store's clock is right again" in client.log.read_text())
            text = client.log.read_text()
            assert text.count("the store's clock was set") == 1 + text.count("cannot sign: the store's clock was set")
            assert text.count("the store's clock is right again") == 1


def test_f16_many_small_steps_are_a_jump_too(tmp_path: Path) -> None:
    wall = Wall(tmp_path)
    with process(tmp_path, "sealwright-emulator", "aws", "--port", "0") as kms:
        config = document(tmp_path, kms.ready["endpoint"])
        with serving(tmp_path, config, wall) as client:
            kid = client.sign()
            wall.set(3)
            time.sleep(1)
            assert client.sign() == kid, "that much is within max_clock_error"
            wall.set(6)
            eventually(lambda: says_jump(client.sign(), 6))


@pytest.mark.parametrize("jump", [60, -60])
def test_f16_a_jump_that_lasts_is_settled_and_keys_keep_their_wait(tmp_path: Path, jump: int) -> None:
    wall = Wall(tmp_path)
    with process(tmp_path, "sealwright-emulator", "aws", "--port", "0") as kms:
        timing = {**QUICK_TIMING, "clock_settle_time": "2s"}
        slow = quick_issuer()
        slow["series"][0]["min_lead"] = "30s"  # less than the jump
        config = document(tmp_path, kms.ready["endpoint"], slow, timing=timing)
        with serving(tmp_path, config, wall) as client:
            kid, kids = client.sign(), client.kids()
            assert client.rotate() == "", "the keys of the first set are ready at once"
            second = client.sign()
            eventually(lambda: len(client.kids()) == 3)
            wall.set(jump)
            eventually(lambda: "jumped" in client.sign())
            eventually(lambda: client.sign() == second)
            assert client.kids() >= kids, "the retired key stays for its tail"
            assert kid != second
            assert "not every verifier" in client.rotate(), "the third key is seconds old"
            assert "have moved by" in client.log.read_text()
