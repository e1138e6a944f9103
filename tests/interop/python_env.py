"""The virtual environment of requirements/interop.lock: Python libraries, and gateways that come as wheels."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support.document import tool_missing

_ROOT = Path(__file__).parents[2]
LOCK = _ROOT / "requirements" / "interop.lock"
_SCRIPT = Path(__file__).parent / "python" / "run.py"
_INSTALL_SECONDS = 110
_RUN_SECONDS = 60


class PythonEnv:
    """What is installed there."""

    def __init__(self, folder: Path) -> None:
        self.python = folder / "bin" / "python"
        self.packages = next((folder / "lib").glob("python3*/site-packages"))

    def run(self, library: str, jobs: Sequence[Mapping[str, Any]], ca: str) -> list[dict[str, Any]]:
        """Verify tokens with a library; see python/run.py for what goes in and comes out."""
        done = subprocess.run(  # noqa: S603 - our own script
            [str(self.python), str(_SCRIPT), library],
            input=json.dumps(jobs),
            capture_output=True,
            text=True,
            timeout=_RUN_SECONDS,
            check=False,
            env={**os.environ, "SSL_CERT_FILE": ca, "REQUESTS_CA_BUNDLE": ca},
        )
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout))

    def file(self, pattern: str) -> Path:
        """Return a file of a package, which may not be there for every machine."""
        found = next(self.packages.glob(pattern), None)
        if found is None:
            tool_missing(pattern.split("/", maxsplit=1)[0])
        assert found
        return found


def install(folder: Path = _ROOT / "build" / "interop-venv") -> PythonEnv:
    """Install the versions and hashes of the lock file, unless they are there."""
    folder.parent.mkdir(exist_ok=True)
    stamp = folder / ".installed"
    with LOCK.open("rb") as file:
        # Two runs of the tests may share one tree.
        fcntl.flock(file, fcntl.LOCK_EX)
        digest = hashlib.sha256(file.read() + sys.version.encode()).hexdigest()
        if not stamp.exists() or stamp.read_text() != digest:
            _run(sys.executable, "-m", "venv", "--clear", str(folder))
            pip = (str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-input")
            _run(*pip, "--only-binary", ":all:", "--require-hashes", "-r", str(LOCK))
            stamp.write_text(digest)
    return PythonEnv(folder)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr[-2000:]
