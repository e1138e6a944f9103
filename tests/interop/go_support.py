"""Verifiers in Go: golang-jwt with go-jose, built here once and run as a process."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.document import tool_missing

FOLDER = Path(__file__).parent / "go"
OLDEST_GO = (1, 24)
"""The version in go.mod, which go-jose needs."""

_BUILD_SECONDS = 100
_RUN_SECONDS = 30
_OFFLINE = re.compile(r"dial tcp|no such host|i/o timeout|proxyconnect|connection refused")


class Go:
    """Runs the verifiers."""

    def __init__(self, binary: Path) -> None:
        self._binary = binary

    def run(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Verify the tokens of a job; see node/run.mjs for its members and those of the result."""
        done = subprocess.run(  # noqa: S603 - what we built
            [str(self._binary)],
            input=json.dumps([job]),
            capture_output=True,
            text=True,
            timeout=_RUN_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout)[0])


def install() -> Go:
    """Build the verifiers at the versions and hashes of go.mod and go.sum, unless they are built already."""
    digest = hashlib.sha256()
    for name in ("main.go", "go.mod", "go.sum"):
        digest.update((FOLDER / name).read_bytes())
    binary = FOLDER.parents[2] / "build" / f"interop-go-{digest.hexdigest()[:16]}" / "verify"
    if not binary.exists():
        go = shutil.which("go")
        if go is None or _version(go) < OLDEST_GO:
            tool_missing("Go {}.{} or newer".format(*OLDEST_GO))
        _build(go or "", binary)
    return Go(binary)


def _version(go: str) -> tuple[int, int]:
    text = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=True, timeout=30).stdout  # noqa: S603
    found = re.match(r"go(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _build(go: str, binary: Path) -> None:
    # Build under another name, and then rename, so that a build that is interrupted leaves nothing that looks complete.
    made = binary.with_name(f"verify.{os.getpid()}")
    done = subprocess.run(  # noqa: S603 - pinned versions of modules
        [go, "build", "-o", str(made), "."],
        cwd=FOLDER,
        env={**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        timeout=_BUILD_SECONDS,
        check=False,
    )
    if done.returncode and _OFFLINE.search(done.stderr):
        tool_missing("a Go module proxy")
    assert done.returncode == 0, done.stderr[-2000:]
    made.replace(binary)
