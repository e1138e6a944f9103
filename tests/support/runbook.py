"""The commands of a page, run as the page has them."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from sealwright_testing.postgres import postgres_binaries
from support.document import CREDENTIALS
from support.processes import BIN

ROOT = Path(__file__).parents[2]
_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_BLOCK = re.compile(r"^( *)```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_SYSTEMCTL = """#!{python}
import socket, sys
with socket.socket(socket.AF_UNIX) as s:
    s.connect({path!r})
    s.sendall(" ".join(sys.argv[1:]).encode() + b"\\n")
    sys.exit(s.recv(1) != b".")
"""


class Ran(NamedTuple):
    """A block of commands that was run."""

    status: int
    output: str


def blocks(page: str) -> dict[str, list[str]]:
    """Return the blocks of commands of a page in `docs`, by section."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    parts = _SECTION.split(text)[1:]
    return {
        title: [textwrap.dedent(body) for _, body in _BLOCK.findall(section)]
        for title, section in zip(parts[::2], parts[1::2], strict=True)
    }


class Runbook:
    """One section of a page. Each call of `run` runs its next block.

    `systemctl` in the commands calls a function of the test instead.
    """

    def __init__(self, page: str, section: str, directory: Path, systemctl: Callable[[str], None]) -> None:
        self._left = blocks(page)[section]
        self._systemctl = systemctl
        self._last = ""
        self.variables: dict[str, str] = {}
        programs = directory / "programs"
        programs.mkdir()
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(directory / "systemd"))
        server.listen()
        self._server = server
        fake = programs / "systemctl"
        fake.write_text(_SYSTEMCTL.format(python=sys.executable, path=str(directory / "systemd")))
        fake.chmod(0o755)
        places = [programs, BIN, *filter(None, [postgres_binaries()])]
        self._path = os.pathsep.join([*map(str, places), os.environ["PATH"]])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                with connection, connection.makefile() as lines:
                    self._systemctl(lines.readline().strip())
                    connection.sendall(b".")

    def run(self, env: Mapping[str, str] | None = None) -> Ran:
        """Run the next block, as `bash -e` does, with the variables that the page names."""
        self._last = self._left.pop(0)
        return self.repeat(env)

    def repeat(self, env: Mapping[str, str] | None = None) -> Ran:
        """Run the last block again, for another host, perhaps."""
        block = self._last
        missing = set(re.findall(r"\$([A-Z]+)", block)) - self.variables.keys() - (env or {}).keys()
        assert not missing, f"the test does not know {missing}"
        done = subprocess.run(  # noqa: S603 - the commands of our own page
            ["/bin/bash", "-euo", "pipefail", "-c", block],
            env={**os.environ, **CREDENTIALS, **self.variables, **(env or {}), "PATH": self._path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
            check=False,
        )
        assert "Traceback" not in done.stdout, done.stdout
        return Ran(done.returncode, done.stdout)

    def finish(self) -> None:
        """Check that all commands of the section have been run."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        assert self._left == []
