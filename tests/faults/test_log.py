"""Kind D: the log of a running service: what it says, what it never says, and that it never stops the service."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from sealwright.errors import ProviderAccessDeniedError
from sealwright.v1 import keys_pb2, signing_pb2
from sealwright.v1.keys_pb2_grpc import KeyServiceStub
from sealwright.v1.signing_pb2_grpc import SigningServiceStub
from sealwright_providers.aws.errors import ClockRefusedError, to_provider_error
from sealwright_testing.emulators.aws import AwsEmulator, ThreadedAwsEmulator
from support.document import CREDENTIALS, document, issuer
from support.processes import BIN, process, secrets_in, write_config
from support.service import until
from support.tls_files import Files

CLAIM = "a-claim-that-nobody-may-see"
LEVELS = ("debug", "info")


@pytest.fixture
def kms() -> Iterator[AwsEmulator]:
    with ThreadedAwsEmulator() as emulator:
        yield emulator


def sign(address: str, claims: str = "{}", **more: Any) -> Any:
    with grpc.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
        request = signing_pb2.SignJwtRequest(issuer="issuers/payments", claims_json=claims, **more)
        return SigningServiceStub(channel).SignJwt(request, timeout=20)


def rotate_and_revoke(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        keys = KeyServiceStub(channel)
        listed = list(keys.ListKeys(keys_pb2.ListKeysRequest(parent="issuers/payments")).keys)
        keys.RevokeKeys(keys_pb2.RevokeKeysRequest(name=listed[0].name, reason="a test"), timeout=20)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("workers", "transport"), [(1, "http"), (1, "boto3"), (2, "http")])
def test_f25_normal_life_is_logged_at_info_and_secrets_at_no_level(
    tmp_path: Path, kms: AwsEmulator, level: str, workers: int, transport: str
) -> None:
    config = document(tmp_path, kms.endpoint)
    config["server"]["workers"] = workers
    # What is sent could rebuild a token.
    config["providers"]["aws"] |= {"message": "raw", "transport": transport}
    command = ["serve", "--config", write_config(tmp_path, config), "--log-level", level, "--log-format", "json"]
    with process(tmp_path, "sealwright", *command) as service:
        address = service.ready["grpc"]
        token = sign(address, json.dumps({"secret": CLAIM}), subject=CLAIM).token
        for _ in range(5):
            with contextlib.suppress(grpc.RpcError):
                sign(address, '{"iss": "x"}')
        rotate_and_revoke(address)
        service.signal(signal.SIGHUP)
        sign(address)
        service.signal(signal.SIGTERM)
        assert service.wait() == 0
    text = service.log.read_text()
    events = [json.loads(line) for line in text.splitlines()]
    said = " ".join(e["message"] for e in events)
    for wanted in (
        "sealwright 0.",
        "grpc on 127.0.0.1",
        "provider aws: kind aws",
        "issuer payments: https://id.example.com/payments; series es256 (ES256 at aws)",
        ": published",
        "revoke_time is 20",
        "opening the audit file again",
        " SignJwt CLAIM_NOT_ALLOWED",
        "stopping",
    ):
        assert wanted in said, wanted
    assert {e["level"] for e in events} <= {"debug", "info", "warning", "error"}
    assert {e["logger"].partition(".")[0] for e in events} <= {"sealwright", "sealwright_providers"}
    for secret in (CLAIM, token, token.split(".")[2]):
        assert secret not in text
    assert secrets_in(text) == []


def test_f25_a_pipe_that_nobody_reads_does_not_stop_the_service(tmp_path: Path, kms: AwsEmulator) -> None:
    config = write_config(tmp_path, document(tmp_path, kms.endpoint))
    service = subprocess.Popen(  # noqa: S603 - our own program
        [str(BIN / "sealwright"), "serve", "--config", config, "--log-level", "debug"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **CREDENTIALS},
    )
    try:
        assert service.stdout is not None
        assert service.stderr is not None
        addresses = json.loads(service.stdout.readline())
        # The pipe is full: what reaches it now cannot be written.
        filling = os.open(f"/proc/{service.pid}/fd/2", os.O_WRONLY | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while os.write(filling, b"x" * 4096):
                pass
        os.close(filling)
        host, _, port = addresses["grpc"].rpartition(":")
        for _ in range(300):
            with socket.create_connection((host, int(port))) as stranger:
                stranger.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        for n in range(300):
            with contextlib.suppress(grpc.RpcError):
                sign(addresses["grpc"], "[" * 100 if n % 2 else '{"iss":1}')
        kms.add_fault(operation="Sign", kind="http_500", times=20)
        for _ in range(20):
            with contextlib.suppress(grpc.RpcError):
                sign(addresses["grpc"])
        kms.clear_faults()
        time.sleep(1.5)  # the breaker tries again after a second
        assert sign(addresses["grpc"]).token
        with urllib.request.urlopen(f"http://{addresses['http']}/healthz", timeout=5) as answer:
            assert answer.status == 200
        service.send_signal(signal.SIGTERM)
        assert service.wait(30) == 0
    finally:
        service.kill()
        service.communicate()


def test_f25_grpcs_own_lines_do_not_come_past_the_format(tmp_path: Path, kms: AwsEmulator) -> None:
    files = Files(tmp_path).settings.model_dump()
    config = document(tmp_path, kms.endpoint)
    config["server"] = {"grpc": "127.0.0.1:0", "http": "127.0.0.1:0", "admin": "127.0.0.1:0", "tls": files}
    command = ["serve", "--config", write_config(tmp_path, config), "--log-format", "json"]
    with process(tmp_path, "sealwright", *command) as service:
        host, _, port = service.ready["grpc"].rpartition(":")
        for sent in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
            with socket.create_connection((host, int(port))) as stranger:
                stranger.sendall(sent)
                stranger.settimeout(5)
                with contextlib.suppress(OSError):
                    while stranger.recv(1000):
                        pass
    for line in service.log.read_text().splitlines():
        assert json.loads(line)["message"]


def test_f25_a_tls_failure_to_the_kms_is_said_to_be_one(tmp_path: Path) -> None:
    files = Files(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.settings.certificate, files.settings.private_key)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        async def serve() -> None:
            server = await asyncio.start_server(lambda _r, w: w.close(), sock=listening.dup(), ssl=context)
            async with server:
                with process(tmp_path, "sealwright", *command, wait=False) as service:

                    async def said() -> bool:
                        return "TLS failed: " in service.log.read_text()

                    await until(said)
                    assert re.search(r"provider aws: \w+ failed: .*TLS failed: .*certificate", service.log.read_text())

        config = document(tmp_path, f"https://localhost:{port}", issuer())
        command = ["serve", "--config", write_config(tmp_path, config)]
        asyncio.run(serve())


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("InvalidSignatureException", "Signature expired: 20261128T000000Z is now earlier than 20261128T001000Z"),
        ("InvalidSignatureException", "Signature not yet current: 20261128T002000Z is still later than"),
        ("SignatureDoesNotMatch", "Signature expired: 20261128T000000Z"),
        ("RequestExpired", ""),
        ("RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
    ],
)
def test_f27_a_clock_that_aws_refuses_is_said_to_be_one(code: str, text: str) -> None:
    error = to_provider_error(code, 400, text=text, request_id="1234")
    assert isinstance(error, ClockRefusedError)
    assert "clock" in error.message
    assert error.detail == f"{code}, request 1234"


def test_f27_other_refusals_are_about_credentials() -> None:
    error = to_provider_error(
        "InvalidSignatureException", 400, text="The request signature we calculated does not match"
    )
    assert isinstance(error, ProviderAccessDeniedError)
    assert not isinstance(error, ClockRefusedError)
    odd = to_provider_error("x" * 100 + "\n", 500, request_id="a b")
    assert odd.detail == "HTTP status 500"


def test_f25_the_level_is_for_our_own_loggers() -> None:
    program = """
import logging
from sealwright.logs import log_to_stderr
log_to_stderr("debug", "json")
for name in ("sealwright.x", "sealwright_providers.aws", "botocore", "urllib3", "azure", "google", "asyncio", "aiohttp"):
    logging.getLogger(name).debug("line of %s", name)
    logging.getLogger(name).warning("warning of %s", name)
"""
    ended = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    said = [json.loads(line)["message"] for line in ended.stderr.splitlines()]
    assert [m for m in said if m.startswith("line")] == ["line of sealwright.x", "line of sealwright_providers.aws"]
    assert len([m for m in said if m.startswith("warning")]) == 8


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("key tFq9eyJhbGciOiJFUzI1NiJ9Wm4xb2JqZWN0c29mcg: active", []),
        ("key eyJq9eyJhbGciOiJFUzI1NiJ9Wm4xb2JqZWN0c29mcg: active", []),
        ("token eyJhbGciOiJFUzI1NiJ9.e30.c2ln", ["eyJhbGciOiJFUzI1NiJ9"]),
        ("token eyJq9eyJhbGciOiJFUzI1NiJ9Wm4xb2JqZWN0c29mcg.e30.c2ln", ["eyJq9eyJhbGciOiJFUzI1NiJ9Wm4xb2JqZWN0c29mcg"]),
        ('{"claims": "eyJzdWIiOiJhIn0"}', ["eyJzdWIiOiJhIn0"]),
    ],
)
def test_the_search_for_secrets_finds_tokens_and_lets_kids_pass(line: str, found: list[str]) -> None:
    assert secrets_in(line) == found
