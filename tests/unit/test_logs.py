"""The log never stops anything, and has one line for each event."""

from __future__ import annotations

import json
import logging
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from sealwright.errors import ProviderUnavailableError
from sealwright.kms.failures import FailureLog, cause_of
from sealwright.logs import JsonFormatter, PatientHandler, TextFormatter

LINE = "2026-11-28"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for end in (reading, writing):
        try:
            os.close(end)
        except OSError:
            continue


def record(message: str, *args: object, **more: object) -> logging.LogRecord:
    return logging.LogRecord("sealwright.x", logging.INFO, "", 0, message, args, None, **more)  # type: ignore[arg-type]


def read_all(descriptor: int) -> bytes:
    os.set_blocking(descriptor, False)
    read = b""
    try:
        while piece := os.read(descriptor, 65536):
            read += piece
    except BlockingIOError:
        pass
    return read


@pytest.mark.parametrize("blocking", [True, False])
def test_f25_a_full_pipe_delays_nobody_and_what_was_lost_is_said(pipe: tuple[int, int], *, blocking: bool) -> None:
    reading, writing = pipe
    os.set_blocking(writing, blocking)
    handler = PatientHandler(writing)
    handler.setFormatter(TextFormatter())
    for n in range(30_000):
        handler.emit(record("%d %s", n, "x" * 100))
    read = b""
    end = time.monotonic() + 30
    while b"lines were lost" not in read and time.monotonic() < end:
        read += read_all(reading)
        time.sleep(0.005)
    lines = read.decode().splitlines()
    assert "INFO sealwright.x" in lines[0]
    numbers = [int(line.split()[-2]) for line in lines if line.endswith("x")]
    assert numbers == sorted(numbers)
    lost = int(next(line for line in lines if "lines were lost" in line).split()[-4])
    assert lost > 0
    assert len(numbers) + lost >= 30_000 - len(handler._lines)


@pytest.mark.parametrize("trouble", ["closed reader", "closed descriptor", "full disk"])
def test_f25_a_log_that_cannot_be_written_raises_nothing(pipe: tuple[int, int], trouble: str) -> None:
    reading, writing = pipe
    if trouble == "closed reader":
        os.close(reading)
    elif trouble == "closed descriptor":
        os.close(writing)
    else:
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, writing)
        os.close(full)
    handler = PatientHandler(writing)
    for _ in range(100):
        handler.emit(record("hello"))
    handler.flush()
    assert not handler._lines
    assert handler._lost > 0


def test_f25_a_wrong_log_call_raises_nothing(pipe: tuple[int, int]) -> None:
    handler = PatientHandler(pipe[1])
    handler.emit(record("%d", "not a number"))
    handler.emit(record("fine"))
    handler.flush()
    assert b"fine" in read_all(pipe[0])


def test_f25_flushing_does_not_wait_for_ever(pipe: tuple[int, int]) -> None:
    handler = PatientHandler(pipe[1])
    for _ in range(2_000):
        handler.emit(record("x" * 1000))
    done = threading.Event()

    def flush() -> None:
        handler.flush()
        done.set()

    threading.Thread(target=flush, daemon=True).start()
    assert done.wait(30)


@pytest.mark.parametrize("text", ["a\nb", "a\r\nFAKE INFO", "\x1b[2J", "\x00", "\u2028", "\x85", "zürich"])
def test_f25_an_event_is_one_line(text: str) -> None:
    for formatter in (TextFormatter(), JsonFormatter()):
        line = formatter.format(record("%s", text))
        assert len(line.splitlines()) == 1
        assert "\x1b" not in line
    assert json.loads(JsonFormatter().format(record("%s", text)))["message"] == text


def test_f25_json_has_the_parts_of_an_event() -> None:
    with pytest.raises(ValueError, match="why") as raised:
        int("why\nso")
    fault = (raised.type, raised.value, raised.tb)
    event = logging.LogRecord("sealwright.x", logging.ERROR, "", 0, "it failed: %s", ("x",), fault)
    parts = json.loads(JsonFormatter().format(event))
    assert {"time", "level", "logger", "process", "message", "exception"} == set(parts)
    assert (parts["level"], parts["message"]) == ("error", "it failed: x")
    text = TextFormatter().format(event).splitlines()
    assert text[0].endswith("it failed: x")
    assert all(line.startswith("    ") for line in text[1:])


def _ssl(kind: Callable[..., ssl.SSLError], **attributes: object) -> ssl.SSLError:
    error = kind(1, "secret text")
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


class SSLError(Exception):
    """As botocore and urllib3 name theirs."""


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (None, ""),
        (
            _ssl(ssl.SSLCertVerificationError, verify_message="self-signed certificate"),
            "TLS failed: self-signed certificate",
        ),
        (_ssl(ssl.SSLError, reason="WRONG_VERSION_NUMBER"), "TLS failed: wrong version number"),
        (ConnectionRefusedError(111, "x"), "Connection refused"),
        (SSLError("https://secret"), "TLS failed (SSLError)"),
        (RuntimeError("secret"), "RuntimeError"),
        (RuntimeError(ConnectionResetError(104, "x")), "Connection reset by peer"),
    ],
)
def test_f25_a_tls_failure_is_said_to_be_one(fault: Exception | None, said: str) -> None:
    assert cause_of(fault) == said


def test_f25_failures_of_a_kms_are_said_once_a_minute_with_their_ids(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sealwright.kms.failures")
    now = 0.0
    failures = FailureLog("aws-eu", lambda: now)
    error = ProviderUnavailableError("AWS KMS reports a failure on its own side")
    error.detail = "KMSInternalException, request 1234"
    for n in range(100):
        now = n * 0.7
        failures.note("sign", error)
    failures.note("describe", error)
    lines = [r.getMessage() for r in caplog.records]
    assert len(lines) == 3
    text = "(AWS KMS reports a failure on its own side; KMSInternalException, request 1234)"
    assert lines[0] == f"provider aws-eu: sign failed: PROVIDER_UNAVAILABLE {text}"
    assert lines[1].endswith("; 85 more since the last such line")
    assert "describe" in lines[2]
