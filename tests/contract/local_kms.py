"""local-kms, an AWS KMS that others wrote in Go: built here once, and run as a process."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.processes import pause

ACCOUNT, REGION = "111122223333", "eu-west-1"
SOURCE = Path(__file__).parent / "local_kms_server"
"""A main program of ours around their server, which makes it listen on loopback alone. go.mod and go.sum pin the version."""
VERSION = re.findall(r"nsmithuk/local-kms (\S+)", (SOURCE / "go.mod").read_text(encoding="ascii"))[0]
BINARY = Path(__file__).parents[2] / "build" / f"local-kms-{VERSION}-loopback" / "local-kms"
OLDEST_GO = (1, 20)
"""What its go.mod asks for. Debian 12 has Go 1.19."""

_BUILD_SECONDS = 240
_START_SECONDS = 20
_STARTED = re.compile(rb"started on 127\.0\.0\.1:([0-9]+)")


def missing() -> str | None:
    """Return what is missing here to run it; None: nothing. Builds it if it is not built yet."""
    if BINARY.exists():
        return None
    go = shutil.which("go")
    if go is None or _version(go) < OLDEST_GO:
        return "Go {}.{} or newer, which builds local-kms,".format(*OLDEST_GO)
    return _build(go)


def _version(go: str) -> tuple[int, int]:
    text = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=True, timeout=30).stdout  # noqa: S603
    found = re.match(r"go(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _build(go: str) -> str | None:
    # Into a folder of its own, and then renamed, so that a build that is interrupted leaves nothing that looks complete.
    folder = BINARY.parent.with_name(f"{BINARY.parent.name}.{os.getpid()}")
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
    command = [go, "build", "-o", str(folder / "local-kms"), "."]
    done = subprocess.run(  # noqa: S603 - the pinned version of a module
        command, cwd=SOURCE, env=environment, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False
    )
    if done.returncode:
        if re.search(r"dial tcp|no such host|i/o timeout|proxyconnect|connection refused", done.stderr):
            return "a Go module proxy"
        raise AssertionError(f"local-kms cannot be built: {done.stderr[-2000:]}")
    BINARY.parent.parent.mkdir(exist_ok=True)
    folder.rename(BINARY.parent)
    return None


class LocalKms:
    """A running local-kms."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.port = 0
        self.start()

    @property
    def endpoint(self) -> str:
        """The URL for clients. It stays the same after `stop` and `start`."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, with the keys that it had before."""
        environment = {
            "PATH": os.environ["PATH"],
            "KMS_ACCOUNT_ID": ACCOUNT,
            "KMS_REGION": REGION,
            "KMS_DATA_PATH": str(self._directory / "data"),
            "PORT": str(self.port),
        }
        # A file, since nobody reads the log once it has started.
        log = self._directory / "log"
        with log.open("wb") as written:
            self._process = subprocess.Popen(  # noqa: S603 - what we built
                [str(BINARY)], env=environment, stdout=written, stderr=subprocess.STDOUT
            )
        end = time.monotonic() + _START_SECONDS
        while not (found := _STARTED.search(log.read_bytes())):
            if time.monotonic() > end or self._process.poll() is not None:
                self.stop()
                raise AssertionError(f"local-kms did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)
        self.port = int(found[1])

    def stop(self) -> None:
        """Stop it. Its keys stay in its folder."""
        self._process.kill()
        self._process.wait(10)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Refuse connections for a while."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not answer for a while."""
        pause(self._process.pid)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)
