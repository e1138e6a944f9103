"""Small file systems that tests fill."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.document import tool_missing


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """Mount a small file system."""
    path.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        tool_missing("the right to mount a small file system")
    done = subprocess.run([str(mount), "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=False)  # noqa: S603
    if done.returncode:
        tool_missing("the right to mount a small file system")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)  # noqa: S603, S607


def fill(path: Path) -> None:
    """Write to a file until the disk is full."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        with contextlib.suppress(OSError):
            while True:
                os.write(file, b"x" * 4096)
    finally:
        os.close(file)
