"""A PKCS#11 module that fails on demand: it passes calls on to another module, and counts, delays or refuses some of them."""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
from enum import IntEnum
from pathlib import Path
from typing import Final

from .softhsm import run_tool

SOURCE: Final = Path(__file__).with_name("pkcs11_faults.c")
VARIABLE: Final = "SEALWRIGHT_FAULTS_MODULE"
CELLS_VARIABLE: Final = "SEALWRIGHT_FAULTS_CELLS"

_FAILURES: Final = 100
_VALUE: Final = 200
_DELAY: Final = 300
_HIDDEN: Final = 400
_INTRUSIONS: Final = 501
_KILL_BEFORE: Final = 600
_KILL_AFTER: Final = 700
_CELLS: Final = 800
_FOREVER: Final = 1 << 30


class Call(IntEnum):
    """Functions that can be counted, delayed and made to fail, by their indexes in CK_FUNCTION_LIST."""

    INITIALIZE = 0
    FINALIZE = 1
    OPEN_SESSION = 12
    CLOSE_ALL_SESSIONS = 14
    LOGIN = 18
    FIND_OBJECTS_INIT = 26
    SIGN_INIT = 42
    SIGN = 43
    GENERATE_KEY_PAIR = 59


def compiler() -> str | None:
    """Return the C compiler; None: there is none."""
    return shutil.which("cc")


class FaultyModule:
    """The compiled module. Its faults apply to the whole process.

    Attributes:
        path: Path of the module.
    """

    def __init__(self, directory: Path, module: str) -> None:
        """Build the module.

        Args:
            directory: Where to write it.
            module: Path of the module that receives the calls.
        """
        self.path = str(directory / "faults.so")
        os.environ[VARIABLE] = module
        run_tool([compiler() or "cc", "-shared", "-fPIC", "-O1", "-Wall", "-o", self.path, str(SOURCE), "-ldl"], {})
        self._library = ctypes.CDLL(self.path)
        self._library.fault_cell.restype = ctypes.POINTER(ctypes.c_long)

    def count(self, call: Call) -> int:
        """Return how often a function was called. python-pkcs11 calls C_Sign twice per signature, first to learn its length."""
        return self._get(int(call))

    def fail(self, call: Call, value: int, times: int = _FOREVER) -> None:
        """Make a function return a CK_RV without doing anything, a number of times."""
        self._set(_VALUE + call, value)
        self._set(_FAILURES + call, times)

    def delay(self, call: Call, milliseconds: int) -> None:
        """Make a function wait before it does anything; 0 ends all waits at once."""
        self._set(_DELAY + call, milliseconds)

    def hide(self, *mechanisms: int) -> None:
        """Make the module neither list nor accept these mechanisms."""
        for place in range(100):
            self._set(_HIDDEN + place, mechanisms[place] + 1 if place < len(mechanisms) else 0)

    def mend(self) -> None:
        """Remove all faults."""
        for call in Call:
            self.fail(call, 0, 0)
            self.delay(call, 0)
        self.hide()

    @property
    def intrusions(self) -> int:
        """How often C_Finalize or C_CloseAllSessions was called while other calls were inside the module."""
        return self._get(_INTRUSIONS)

    def _get(self, cell: int) -> int:
        return int(self._library.fault_cell(cell)[0])

    def _set(self, cell: int, value: int) -> None:
        self._library.fault_cell(cell)[0] = value


class KillingModule:
    """The faults of another process, which loads the compiled module with `environment`. They are in a file.

    Attributes:
        environment: Environment variables for the other process.
    """

    def __init__(self, cells: Path, module: str) -> None:
        """Write the file.

        Args:
            cells: Where to write it.
            module: Path of the module that receives the calls.
        """
        self._cells = cells
        self.environment = {VARIABLE: module, CELLS_VARIABLE: str(cells)}
        cells.write_bytes(bytes(_CELLS * struct.calcsize("l")))

    def kill(self, call: Call, *, after: bool, number: int = 1) -> None:
        """Kill the process with SIGKILL at a call of a function: before the call, or after it and before its return."""
        place = (_KILL_AFTER if after else _KILL_BEFORE) + call
        with self._cells.open("r+b") as file:
            file.seek(place * struct.calcsize("l"))
            file.write(struct.pack("l", number))
