"""A PostgreSQL server for tests, from the system's package: in its own directory, on a Unix socket alone, and without root."""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sealwright_testing.softhsm import run_tool

_LIBC: Final = ctypes.CDLL(None)  # bound here: a child that has given up root may not be able to read it any more
_PR_SET_PDEATHSIG: Final = 1
_NOBODY: Final = 65534
_SECONDS: Final = 60
_PAUSE: Final = 0.02
_OPTIONS: Final = (
    "listen_addresses=",
    "fsync=off",  # what is committed survives the server's end, and that is enough
    "full_page_writes=off",
    "shared_buffers=16MB",
    "max_connections=100",
    "wal_level=replica",
    "log_min_messages=warning",
)


def postgres_binaries() -> Path | None:
    """Return the directory of the newest installed PostgreSQL's programs; None: it is not installed."""
    found = [p.parent for p in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda p: float(p.parent.name))
    on_path = shutil.which("initdb")
    return None if on_path is None else Path(on_path).parent


class PostgresServer:
    """A server. Its superuser is `postgres`, without a password.

    Attributes:
        directory: The directory of its data and of its socket.
        environment: What its process has in its environment besides the defaults, from its next start on.
    """

    def __init__(self, binaries: Path, directory: Path, port: int, options: Sequence[str]) -> None:
        self._binaries = binaries
        self._options = [o for option in (*_OPTIONS, f"port={port}", *options) for o in ("-c", option)]
        self._port = port
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self.directory = directory
        self.environment: dict[str, str] = {}

    @property
    def log(self) -> Path:
        """What the server has written."""
        return self.directory.with_name(f"{self.directory.name}.log")

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None  # noqa: S101 - it is running
        return self._process.pid

    def set_up(self) -> None:
        """Create the data.

        Raises:
            RuntimeError: That failed.
        """
        self._create(["initdb", "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C"])

    def set_up_standby(self, primary: PostgresServer) -> None:
        """Copy the data of a running server, and follow it from the start on.

        Raises:
            RuntimeError: That failed.
        """
        self._create(["pg_basebackup", "-h", primary.directory, "-U", "postgres", "-R", "-c", "fast", "--no-sync"])

    def _create(self, command: list[Any]) -> None:
        self.own(self.directory)
        if self._spawn([*command, "-D", self.directory / "data"]).wait(_SECONDS):
            raise RuntimeError(f"{command[0]} failed: {self.log.read_text(encoding='utf-8')}")

    @staticmethod
    def own(path: Path) -> None:
        """Give a file to the user that the server runs as. PostgreSQL refuses to run as root."""
        if os.geteuid() == 0:
            os.chown(path, _NOBODY, _NOBODY)

    def start(self) -> None:
        """Start the server, and wait until it answers.

        It refuses to start as long as a process of a server that crashed is still there, so it is started again until then.

        Raises:
            RuntimeError: It does not.
        """
        command = ["postgres", "-D", self.directory / "data", "-k", self.directory, *self._options]
        self._process = self._spawn(command, self.environment)
        end = time.monotonic() + _SECONDS
        while True:
            try:
                self.execute("SELECT 1")
            except RuntimeError as e:
                if time.monotonic() > end:
                    raise RuntimeError(f"{e}\n{self.log.read_text(encoding='utf-8')[-2000:]}") from e
                time.sleep(_PAUSE)
                if self._process.poll() is not None:
                    self._process = self._spawn(command, self.environment)
            else:
                return

    def stop(self) -> None:
        """Stop the server at once, as a crash would. Its data stays. A second call does nothing."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(_SECONDS)
            self._process = None

    def execute(self, statement: str, database: str = "postgres", user: str = "postgres") -> str:
        """Run SQL, and return the values that it gives, one row a line.

        Raises:
            RuntimeError: It failed.
        """
        command = [
            str(self._binaries / "psql"),
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            str(self.directory),
            "-p",
            str(self._port),
        ]
        return run_tool([*command, "-U", user, "-d", database, "-c", statement], {"PGOPTIONS": ""}).strip()

    def create_database(self) -> str:
        """Create an empty database and return its name."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def clear(self, database: str) -> None:
        """End all sessions of a database, and delete what is in it. This is quicker than another database."""
        others = f"FROM pg_stat_activity WHERE datname = '{database}' AND pid <> pg_backend_pid()"
        self.execute(f"SELECT pg_terminate_backend(pid, 5000) {others}")
        self.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public", database)

    def url(self, database: str, user: str = "postgres") -> str:
        """Return the URL of a store."""
        return f"postgresql://{user}@/{database}?host={self.directory}"

    def _spawn(self, command: list[Any], environment: Mapping[str, str] = {}) -> subprocess.Popen[bytes]:
        program, *arguments = map(str, command)
        as_nobody: dict[str, Any] = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
        with self.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - the system's programs
                [str(self._binaries / program), *arguments],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", **environment},
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - a killed test leaves no server
                **(as_nobody if os.geteuid() == 0 else {}),
            )


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


@contextmanager
def postgres(
    binaries: Path, *options: str, port: int = 5432, primary: PostgresServer | None = None
) -> Iterator[PostgresServer]:
    """Run a server while the block runs.

    Args:
        binaries: From `postgres_binaries`.
        options: More settings, such as `ssl=on`.
        port: The port, if the settings let it listen on one.
        primary: The server that it follows, as a standby.
    """
    # Short, because the path of a socket has at most 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="swpg-", dir="/tmp"))
    server = PostgresServer(binaries, directory, port, options)
    try:
        if primary is None:
            server.set_up()
        else:
            server.set_up_standby(primary)
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)
        directory.with_name(f"{directory.name}.log").unlink(missing_ok=True)
