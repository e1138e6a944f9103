"""Verifiers that run on Node.js."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support.document import tool_missing

LIBRARIES = ("jose", "jsonwebtoken")
FOLDER = Path(__file__).parent / "node"
_OLDEST = (20, 19)
"""jwks-rsa loads an ES module with require()."""

_NPM_SECONDS = 100
_RUN_SECONDS = 30


class Node:
    """Runs the verifiers."""

    def __init__(self, command: str) -> None:
        self._command = command

    def run(self, library: str, job: Mapping[str, Any]) -> dict[str, Any]:
        """Verify the tokens of one job."""
        return self.run_all(library, [job])[0]

    def run_all(self, library: str, jobs: Sequence[Mapping[str, Any]], ca: str = "") -> list[dict[str, Any]]:
        """Verify tokens with a library; see node/run.mjs for what goes in and comes out."""
        done = subprocess.run(  # noqa: S603 - our own script
            [self._command, str(FOLDER / "run.mjs"), library],
            input=json.dumps(jobs),
            capture_output=True,
            text=True,
            timeout=_RUN_SECONDS,
            check=False,
            env={**os.environ, **({"NODE_EXTRA_CA_CERTS": ca} if ca else {})},
        )
        assert done.returncode == 0, done.stderr
        assert not [
            line for line in done.stderr.splitlines() if "Warning: " not in line and "--trace-warnings" not in line
        ]
        return list(json.loads(done.stdout))


def install() -> Node:
    """Install the verifiers at the versions and hashes of the lock file, unless they are there."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None or _version(node) < _OLDEST:
        tool_missing(f"node >= {'.'.join(map(str, _OLDEST))}, with npm,")
    assert node
    assert npm
    lock = FOLDER / "package-lock.json"
    stamp = FOLDER / "node_modules" / ".installed"
    with lock.open("rb") as file:
        # Two runs of the tests may share one tree, and npm empties the folder before it fills it.
        fcntl.flock(file, fcntl.LOCK_EX)
        digest = hashlib.sha256(file.read()).hexdigest()
        if not stamp.exists() or stamp.read_text() != digest:
            _npm_ci(npm)
            stamp.write_text(digest)
    return Node(node)


def _npm_ci(npm: str) -> None:
    # Scripts of packages are nobody's business here: none of these libraries has to be built.
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(  # noqa: S603
        command, cwd=FOLDER, capture_output=True, text=True, timeout=_NPM_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def _version(node: str) -> tuple[int, ...]:
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603
    return tuple(int(part) for part in said.strip().removeprefix("v").split(".")[:2])
