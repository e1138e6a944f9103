"""Tokens of SoftHSM2, in their own directory and without root.

SoftHSM reads SOFTHSM2_CONF when the module is initialised, so two directories at once need two processes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

MODULES: Final = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)
PIN: Final = "1234"
_SECONDS: Final = 30


def softhsm_module() -> str | None:
    """Return the path of SoftHSM's module; None: SoftHSM is not installed."""
    if shutil.which("softhsm2-util") is None:
        return None
    return next((path for path in MODULES if Path(path).exists()), None)


@dataclass(frozen=True, slots=True)
class SoftHsm:
    """A directory of tokens.

    Attributes:
        module: The module's path.
        directory: The directory with the configuration (`softhsm2.conf`) and the tokens (`tokens`).
        label: Label of the first token.
        pin: User PIN of every token.
    """

    module: str
    directory: Path
    label: str = "sealwright"
    pin: str = PIN

    @property
    def conf(self) -> Path:
        """The value for SOFTHSM2_CONF."""
        return self.directory / "softhsm2.conf"

    @property
    def tokens(self) -> Path:
        """The directory of SoftHSM's tokens, with a subdirectory for each."""
        return self.directory / "tokens"

    @property
    def pin_file(self) -> Path:
        """The file with the PIN."""
        return self.directory / "pin"

    def settings(self, **more: Any) -> dict[str, Any]:
        """Return a provider's table in the configuration."""
        return {
            "kind": "pkcs11",
            "module": self.module,
            "token_label": self.label,
            "pin_file": str(self.pin_file),
            **more,
        }

    def set_up(self) -> None:
        """Write the files, and create the first token."""
        self.tokens.mkdir(parents=True)
        self.conf.write_text(
            f"directories.tokendir = {self.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n", encoding="ascii"
        )
        self.pin_file.write_text(self.pin + "\n", encoding="ascii")
        self.init_token(self.label)

    def init_token(self, label: str) -> None:
        """Create a token. A module that is already initialised does not see it."""
        command = ["--init-token", "--free", "--label", label, "--pin", self.pin, "--so-pin", "5678"]
        run_tool(["softhsm2-util", *command], {"SOFTHSM2_CONF": str(self.conf)})


def run_tool(command: list[str], environment: dict[str, str]) -> str:
    """Run a command-line tool and return its output.

    Raises:
        RuntimeError: The tool failed. The text contains its output.
    """
    done = subprocess.run(  # noqa: S603 - system tools, with our own arguments
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stdout}{done.stderr}")
    return done.stdout


@contextmanager
def soft_hsm(module: str) -> Iterator[SoftHsm]:
    """Create a token, and set SOFTHSM2_CONF in this process while it exists."""
    before = os.environ.get("SOFTHSM2_CONF")
    with tempfile.TemporaryDirectory(prefix="sealwright-softhsm-") as directory:
        hsm = SoftHsm(module, Path(directory))
        hsm.set_up()
        os.environ["SOFTHSM2_CONF"] = str(hsm.conf)
        try:
            yield hsm
        finally:
            if before is None:
                del os.environ["SOFTHSM2_CONF"]
            else:
                os.environ["SOFTHSM2_CONF"] = before


def serve_token(module: str) -> None:
    """Create a token, print one JSON line that says where it is, and delete it at SIGTERM or SIGINT."""
    ends = {signal.SIGTERM, signal.SIGINT}
    # Do this before printing the line, since its reader may send a signal at once.
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    with soft_hsm(module) as hsm:
        line = {name: value for name, value in hsm.settings().items() if name != "kind"}
        sys.stdout.write(json.dumps({**line, "softhsm2_conf": str(hsm.conf)}) + "\n")
        sys.stdout.flush()
        signal.sigwait(ends)
