"""Kind D: strangers send HTTP of any kind, and the log stays readable."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sealwright.server.http.public import PublicPages
from sealwright_testing.emulators.aws import AwsEmulator
from support.document import document
from support.service import Service, running

SECRET = "Bearer a-secret-of-somebody"
HEADERS = f"Host: localhost\r\nAuthorization: {SECRET}\r\n"

MALFORMED = {
    "no version": f"GET /healthz\r\n{HEADERS}\r\n",
    "version": f"GET /healthz HTTP/9\r\n{HEADERS}\r\n",
    "method": f"G@T /healthz HTTP/1.1\r\n{HEADERS}\r\n",
    "bad URL": f"GET http://[::1 HTTP/1.1\r\n{HEADERS}\r\n",
    "port of URL": f"GET http://a:99999999/ HTTP/1.1\r\n{HEADERS}\r\n",
    "header name": f"GET / HTTP/1.1\r\n{HEADERS}a b: c\r\n\r\n",
    "header without colon": f"GET / HTTP/1.1\r\n{HEADERS}nothing\r\n\r\n",
    "control character": f"GET / HTTP/1.1\r\n{HEADERS}a: \x01\x00\r\n\r\n",
    "folded header": f"GET / HTTP/1.1\r\n{HEADERS} folded\r\n\r\n",
    "long header": f"GET / HTTP/1.1\r\n{HEADERS}a: {'b' * 10_000}\r\n\r\n",
    "long path": f"GET /{'b' * 10_000} HTTP/1.1\r\n{HEADERS}\r\n",
    "many headers": f"GET / HTTP/1.1\r\n{HEADERS}{'a: b' * 1}\r\n" + "a: b\r\n" * 500 + "\r\n",
    "length": f"GET / HTTP/1.1\r\n{HEADERS}Content-Length: x\r\n\r\n",
    "two lengths": f"GET / HTTP/1.1\r\n{HEADERS}Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "length and chunks": f"GET / HTTP/1.1\r\n{HEADERS}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "bad chunk": f"POST / HTTP/1.1\r\n{HEADERS}Transfer-Encoding: chunked\r\n\r\nzz\r\n{SECRET}\r\n",
    "bad gzip": f"POST / HTTP/1.1\r\n{HEADERS}Content-Encoding: gzip\r\nContent-Length: 30\r\n\r\n" + "x" * 30,
    "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "a" * 200,
    "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "second request": f"GET /healthz HTTP/1.1\r\n{HEADERS}\r\nG@T / HTTP/1.1\r\n{HEADERS}\r\n",
    "after upgrade": f"GET / HTTP/1.1\r\n{HEADERS}Connection: upgrade\r\nUpgrade: h2c\r\n\r\nG@T {SECRET}\r\n\r\n",
}


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with AwsEmulator() as emulator, running(document(tmp_path, emulator.endpoint)) as service:
        yield service


async def said(address: str, request: bytes) -> bytes:
    """Send bytes, and return what the listener answers until it closes or has nothing more to say."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    answer = b""
    try:
        writer.write(request)
        while received := await asyncio.wait_for(reader.read(65536), 0.3):
            answer += received
    except (ConnectionError, TimeoutError):
        pass
    finally:
        writer.close()
    return answer


async def errors(service: Service, listener: str = "http") -> float:
    _, _, body = await service.get("/metrics", at="admin")
    found = re.search(rf'^sealwright_http_errors_total{{listener="{listener}"}} (\S+)', body.decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def from_http(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        f"{r.name}: {r.getMessage()} {r.exc_text or ''}"
        for r in caplog.records
        if r.name.split(".")[0] != "sealwright_testing"
    ]


@pytest.mark.parametrize("listener", ["http", "admin"])
async def test_f26_malformed_http_is_counted_and_leaves_no_line(
    service: Service, caplog: pytest.LogCaptureFixture, listener: str
) -> None:
    caplog.set_level(logging.DEBUG, "aiohttp")
    caplog.set_level(logging.DEBUG, "asyncio")
    caplog.set_level(logging.DEBUG, "sealwright.server.http")
    uncounted = []
    for name, request in MALFORMED.items():
        caplog.clear()
        before = await errors(service, listener)
        answer = await said(service.app.addresses[listener], request.encode("latin-1"))
        assert [line for line in from_http(caplog) if "http" in line.lower() or SECRET in line] == [], name
        assert SECRET.encode() not in answer, name
        assert b"aiohttp" not in answer.lower(), name
        if await errors(service, listener) == before:
            uncounted.append(name)
    # The first is HTTP/0.9, and is answered. What follows a refused upgrade is not looked at after such an answer.
    assert set(uncounted) <= {"no version", "after upgrade"}


async def test_f26_random_bytes_leave_no_line(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    random_bytes = random.Random(26)  # noqa: S311 - not for secrets
    whole = f"GET /healthz HTTP/1.1\r\n{HEADERS}\r\n".encode()
    for _ in range(40):
        request = bytearray(whole)
        for _ in range(random_bytes.randint(1, 4)):
            request[random_bytes.randrange(len(request))] = random_bytes.randrange(256)
        answer = await said(service.app.addresses["http"], bytes(request))
        assert b" 500 " not in answer[:20], bytes(request)
    assert [line for line in from_http(caplog) if "Error" in line or "Traceback" in line] == []


@pytest.mark.parametrize("path", ["/healthz", "/none", "/payments/.well-known/jwks.json"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
async def test_f26_no_answer_names_versions(service: Service, method: str, path: str) -> None:
    for listener in ("http", "admin"):
        _, headers, _ = await service.get(path, method=method, at=listener)
        assert headers["Server"] == "sealwright"


async def test_f26_a_fault_of_our_own_is_logged_and_answered_with_500(
    service: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_self: PublicPages, _path: str) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(PublicPages, "page", broken)
    status, headers, body = await service.get("/healthz", at="admin", Authorization=SECRET)
    assert (status, headers["Server"]) == (500, "sealwright")
    assert b"defect" not in body
    (record,) = [r for r in caplog.records if r.levelname == "ERROR"]
    assert record.exc_info is not None
    assert SECRET not in caplog.text
