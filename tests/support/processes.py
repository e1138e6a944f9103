"""The emulator and the service as processes, started and stopped as their users do."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.document import CREDENTIALS

BIN = Path(sys.executable).parent
_SECRETS = [
    re.compile(pattern)
    for pattern in (
        # The middle of a kid may look like this, and so may a kid as a whole: 43 characters of base64url, and nothing after them.
        r"(?<![\w-])eyJ(?![\w-]{40}(?![\w.-]))[\w-]{10,}",
        r"arn:aws:kms:\S+",
        r"awskms:///?\S+|gcpkms://\S+|azurekms://\S+|pkcs11:\S*id=\S+",
        r"cryptoKeyVersions/\S+",
        r"AWS4-HMAC-SHA256\S*|X-Amz-Security-Token\S*|Bearer \S+",
        r"-----BEGIN [A-Z ]+-----",
    )
]
_LINE_SECONDS = 60
_STOP_SECONDS = 30


def pause(pid: int) -> None:
    """Stop a process, and return when all of its threads have stopped: on a busy machine they go on for a while after SIGSTOP."""
    os.kill(pid, signal.SIGSTOP)
    end = time.monotonic() + _STOP_SECONDS
    while any(_state(task) not in "TtZX" for task in Path(f"/proc/{pid}/task").iterdir()):
        assert time.monotonic() < end, "it does not stop"
        time.sleep(0.005)


def _state(task: Path) -> str:
    """Return the state of a thread (proc_pid_stat(5)); one that has ended counts as stopped."""
    try:
        return (task / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return "T"


class Process:
    """A program that prints one line of JSON when it is ready."""

    def __init__(self, directory: Path, *command: str, env: Mapping[str, str] | None = None) -> None:
        self.log = directory / f"{Path(command[0]).name}-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self.popen = subprocess.Popen(  # noqa: S603 - our own programs
                [str(BIN / command[0]), *command[1:]],
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **CREDENTIALS, **(env or {})},
                start_new_session=True,
            )
        self.ready: dict[str, Any] = {}

    def wait_ready(self) -> dict[str, Any]:
        """Return the line that it prints."""
        stdout = self.popen.stdout
        assert stdout is not None
        if not select.select([stdout], [], [], _LINE_SECONDS)[0]:
            raise AssertionError(f"no line in time: {self.log.read_text()[-2000:]}")
        line = stdout.readline()
        if not line:
            raise AssertionError(f"it ended with {self.popen.wait()}: {self.log.read_text()[-2000:]}")
        self.ready = json.loads(line)
        return self.ready

    def signal(self, number: int) -> None:
        """Send a signal to the process alone."""
        if number == signal.SIGSTOP:
            pause(self.popen.pid)
        else:
            self.popen.send_signal(number)

    def wait(self, seconds: float = _STOP_SECONDS) -> int:
        """Return its exit status."""
        return self.popen.wait(seconds)

    def stop(self) -> None:
        """End it, whatever it does."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.popen.pid, number)
                self.popen.wait(_STOP_SECONDS)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        if self.popen.stdout:
            self.popen.stdout.close()


@contextmanager
def process(
    directory: Path, *command: str, wait: bool = True, env: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """Run a program, and stop it in the end. The service logs at debug, and what it wrote is searched for secrets."""
    serves = command[:2] == ("sealwright", "serve")
    if serves and "--log-level" not in command:
        command = (*command, "--log-level", "debug")
    running = Process(directory, *command, env=env)
    try:
        if wait:
            running.wait_ready()
        yield running
    finally:
        running.stop()
    if serves:
        require_no_secrets(running.log.read_text(errors="replace"))


def secrets_in(log: str) -> list[str]:
    """Return what a log must not have: tokens, key URIs, names of KMS keys, credentials and key material."""
    return [found[0] for pattern in _SECRETS for found in pattern.finditer(log)]


def require_no_secrets(log: str) -> None:
    """Fail if a log has a secret, and say which: those of tests are worth nothing."""
    if found := secrets_in(log):
        raise AssertionError(f"secrets in the log: {found}")


def to_toml(document: Mapping[str, Any]) -> str:
    """Write a configuration as TOML; for what `document()` makes, not for all of TOML."""
    tables = {k: v for k, v in document.items() if isinstance(v, dict)}
    arrays = {k: v for k, v in document.items() if isinstance(v, list)}
    lines: list[str] = []
    for name, table in tables.items():
        _table(lines, name, table)
    for name, items in arrays.items():
        for item in items:
            lines.append(f"[[{name}]]")
            _values(lines, item)
            for key, value in item.items():
                if isinstance(value, dict):
                    _table(lines, f"{name}.{key}", value)
                elif _is_array_of_tables(value):
                    for one in value:
                        lines.append(f"[[{name}.{key}]]")
                        _values(lines, one)
    return "\n".join(lines) + "\n"


def _table(lines: list[str], name: str, table: Mapping[str, Any]) -> None:
    lines.append(f"[{name}]")
    _values(lines, table)
    for key, value in table.items():
        if isinstance(value, dict):
            _table(lines, f"{name}.{key}", value)


def _values(lines: list[str], table: Mapping[str, Any]) -> None:
    lines += [
        f"{k} = {json.dumps(v)}" for k, v in table.items() if not isinstance(v, dict) and not _is_array_of_tables(v)
    ]


def _is_array_of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def write_config(directory: Path, document: Mapping[str, Any]) -> str:
    """Write a configuration file and return its path."""
    path = directory / "sealwright.toml"
    path.write_text(to_toml(document))
    return str(path)


def control(endpoint: str, path: str, body: object) -> None:
    """Tell an emulator of AWS what to do."""
    request = urllib.request.Request(f"{endpoint}/_emulator/{path}", json.dumps(body).encode(), method="POST")  # noqa: S310
    with urllib.request.urlopen(request):  # noqa: S310 - the emulator, on loopback
        pass
