"""A token of NSS softokn, in which Firefox keeps keys, in its own directory: a second implementation of PKCS#11."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .softhsm import run_tool

MODULES: Final = (
    "/usr/lib/x86_64-linux-gnu/libsoftokn3.so",
    "/usr/lib/x86_64-linux-gnu/nss/libsoftokn3.so",
    "/usr/lib/aarch64-linux-gnu/libsoftokn3.so",
    "/usr/lib/aarch64-linux-gnu/nss/libsoftokn3.so",
    "/usr/lib64/libsoftokn3.so",
)
LABEL: Final = "NSS Certificate DB"
PIN: Final = "nss-password"


def nss_module() -> str | None:
    """Return the path of softokn; None: softokn or certutil is not installed."""
    if shutil.which("certutil") is None:
        return None
    return next((path for path in MODULES if Path(path).exists()), None)


@dataclass(frozen=True, slots=True)
class NssToken:
    """A key database.

    Attributes:
        module: The module's path.
        directory: The directory with the database.
    """

    module: str
    directory: Path

    def settings(self, **more: Any) -> dict[str, Any]:
        """Return a provider's table in the configuration."""
        return {
            "kind": "pkcs11",
            "module": self.module,
            "token_label": LABEL,
            "pin_file": str(self.directory / "pin"),
            "initialize_arguments": (
                f"configdir='sql:{self.directory}' certPrefix='' keyPrefix='' secmod='secmod.db' flags="
            ),
            **more,
        }


@contextmanager
def nss_token(module: str) -> Iterator[NssToken]:
    """Create a key database that is locked with a password."""
    with tempfile.TemporaryDirectory(prefix="sealwright-nss-") as directory:
        token = NssToken(module, Path(directory))
        (token.directory / "pin").write_text(PIN + "\n", encoding="ascii")
        run_tool(["certutil", "-N", "-d", f"sql:{directory}", "-f", str(token.directory / "pin")], {})
        yield token
