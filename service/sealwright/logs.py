"""The log: one line for each event on standard error, as text or as JSON, written so that it never stops the service.

A thread of its own writes the lines. What nobody takes (a full pipe, a stopped terminal, a full disk) is dropped and counted.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import re
import select
import sys
import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import Any, Final, Literal

from sealwright.threads import give_way

Format = Literal["text", "json"]

FORMATS: Final[tuple[Format, ...]] = ("text", "json")
_OURS: Final = ("sealwright", "sealwright_providers")
_TEXT: Final = "%(asctime)s %(levelname)s %(name)s [%(process)d]: %(message)s"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_MAX_LINE: Final = 16 * 1024
_WAITING: Final = 10_000
"""Most lines that wait for standard error."""
_FLUSH_SECONDS: Final = 1.0
"""How long the end of the process waits for lines to be written."""


class TextFormatter(logging.Formatter):
    """Makes lines for people. Control characters are escaped; only tracebacks have several lines, which are indented."""

    def __init__(self) -> None:
        super().__init__(_TEXT)

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        first, *more = super().format(record).split("\n") if record.exc_info else [super().format(record)]
        return "\n    ".join(_escaped(line) for line in (first, *more))


class JsonFormatter(logging.Formatter):
    """Makes one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        event: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return json.dumps(event, ensure_ascii=True)


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda c: c[0].encode("unicode_escape").decode("ascii"), text)


class PatientHandler(logging.Handler):
    """Hands lines to a thread that writes them to a descriptor, and never waits itself."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque()
        self._lost = 0
        self._some = threading.Event()
        self._writing = threading.Event()
        threading.Thread(target=self._write_all, name="sealwright-log", daemon=True).start()
        atexit.register(self.flush)

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        try:
            line = self.format(record).encode("utf-8", "backslashreplace")
        except Exception:  # noqa: BLE001 - a wrong log call must not stop anything
            self._lost += 1
            return
        if len(self._lines) >= _WAITING:
            self._lost += 1
            return
        self._lines.append(line[:_MAX_LINE] + b"\n")
        self._some.set()

    def flush(self) -> None:
        """Wait until the lines are written, but not for long."""
        end = time.monotonic() + _FLUSH_SECONDS
        while (self._lines or self._writing.is_set()) and time.monotonic() < end:
            time.sleep(0.005)

    def _write_all(self) -> None:
        give_way()
        while True:
            self._some.wait()
            self._some.clear()
            while self._lines:
                self._writing.set()
                self._write(self._lines.popleft())
                if self._lost and not self._lines:
                    lost, self._lost = self._lost, 0
                    record = logging.LogRecord(__name__, logging.WARNING, "", 0, "%d lines were lost", (lost,), None)
                    self._write(self.format(record).encode() + b"\n")
            self._writing.clear()

    def _write(self, line: bytes) -> None:
        while line:
            try:
                line = line[os.write(self._descriptor, line) :]
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError:  # nobody reads any more, or the disk is full
                self._lost += 1
                return


def log_to_stderr(level: str, form: Format = "text") -> None:
    """Log to standard error, unless the program around us has set up logging already.

    The level is for our own loggers. Libraries log warnings and worse, because at lower levels some of them write credentials and
    whole requests.

    Args:
        level: Least severe level, as `logging` names it, in any case.
        form: Form of the lines.
    """
    root = logging.getLogger()
    if root.handlers:
        return
    handler = PatientHandler(_descriptor())
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root.addHandler(handler)
    own = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(max(own, logging.WARNING))
    for name in _OURS:
        logging.getLogger(name).setLevel(own)
    logging.captureWarnings(capture=True)
    logging.raiseExceptions = False
    threading.excepthook = _in_thread
    sys.unraisablehook = _unraisable


def _descriptor() -> int:
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return 2


def _in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        fault = (args.exc_type, args.exc_value, args.exc_traceback)
        logging.getLogger(_OURS[0]).error("a thread ended with an exception", exc_info=fault)


def _unraisable(args: sys.UnraisableHookArgs) -> None:
    if args.exc_value is not None:
        fault = (args.exc_type, args.exc_value, args.exc_traceback)
        logging.getLogger(_OURS[0]).error("an exception could not be raised", exc_info=fault)
