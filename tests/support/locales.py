"""Locales as environment variables, for commands as processes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

LATIN_1 = "en_US.ISO-8859-1"


def made_locales(directory: Path) -> dict[str, dict[str, str]]:
    """Return environment variables by the name of a locale. Latin-1 is compiled into the directory, if its source is here."""
    found = {
        "C": {"LC_ALL": "C"},
        "POSIX": {"LC_ALL": "POSIX"},
        "UTF-8": {"LC_ALL": "C.UTF-8"},
        "ASCII": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        "PYTHONIOENCODING": {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "latin-1"},
    }
    program = shutil.which("localedef")
    if program is not None:
        command = [program, "-f", "ISO-8859-1", "-i", "en_US", str(directory / LATIN_1)]
        subprocess.run(command, check=False, capture_output=True)  # noqa: S603 - a program of the C library
        if (directory / LATIN_1).exists():
            found["Latin-1"] = {"LC_ALL": LATIN_1, "LOCPATH": str(directory)}
    return found
