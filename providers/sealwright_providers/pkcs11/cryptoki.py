"""A PKCS#11 module in this process: loaded once, initialised with locking, finalised only when no call is inside.

python-pkcs11 calls C_Initialize(NULL), which promises a single thread (v2.40 §5.4), yet it releases the GIL around calls. SoftHSM
then uses no locks, and two threads crash the process. So C_Initialize, and other functions that python-pkcs11 lacks, go through
the module's own function list (v2.40 §5.2, C_GetFunctionList).
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from typing import Any, ClassVar, Final

import pkcs11
from pkcs11 import _pkcs11

from sealwright.provider import ConfigurationError
from sealwright_providers.pkcs11.errors import ALREADY_INITIALISED, OK, TooSoonError, from_value
from sealwright_providers.pkcs11.gate import Gate

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0
"""After an initialisation the module is not initialised again for FIRST_PAUSE seconds. The pause doubles each time, up to
LONGEST_PAUSE. It does not apply if the module was finalised by other code."""

_PATIENCE_SECONDS: Final = 0.1
"""Longest time that a call waits for the pause to end. SoftHSM does not see a token while another process writes to it."""

_CALM_SECONDS: Final = 10.0
"""After so many seconds without an initialisation, the pause is FIRST_PAUSE again."""

_OS_LOCKING_OK: Final = 0x00000002
_USER: Final = 1
_USER_STATES: Final = frozenset({1, 3})
# Indexes in CK_FUNCTION_LIST (v2.40 §3.6), the same in all its versions.
_INITIALIZE, _FINALIZE, _CLOSE_ALL_SESSIONS, _SESSION_INFO, _LOGIN = 0, 1, 14, 15, 18
_FUNCTIONS: Final = 68


class _FunctionList(ctypes.Structure):
    _fields_ = (("version", ctypes.c_ubyte * 2), ("functions", ctypes.c_void_p * _FUNCTIONS))


class _InitializeArgs(ctypes.Structure):
    # CK_C_INITIALIZE_ARGS and one more pointer: NSS softokn has an own field before pReserved, and reads its text from there.
    _fields_ = (
        ("mutexes", ctypes.c_void_p * 4),
        ("flags", ctypes.c_ulong),
        ("reserved", ctypes.c_char_p),
        ("end", ctypes.c_void_p),
    )


class _SessionInfo(ctypes.Structure):
    _fields_ = (
        ("slot", ctypes.c_ulong),
        ("state", ctypes.c_ulong),
        ("flags", ctypes.c_ulong),
        ("device_error", ctypes.c_ulong),
    )


stopwatch = time.monotonic
"""For the pauses after an initialisation; tests replace it."""


class _Library(_pkcs11.lib):
    """python-pkcs11's view of a module that `Cryptoki` initialises and finalises."""

    def initialize(self) -> None:
        """Do nothing: `Cryptoki` does it."""


class Cryptoki:
    """The module at one path. Deadlines are of `time.monotonic`.

    Attributes:
        gate: Every call into the module is made inside it.
        generation: How often we initialised the module. Handles of an earlier generation are invalid.
        live: Whether the module is initialised, as far as we know.
    """

    _open: ClassVar[dict[str, Cryptoki]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, path: str, arguments: str | None) -> None:
        self.gate = Gate()
        self.generation = 0
        self.live = False
        self._path = path
        self._arguments = arguments
        self._users = 0
        self._closings: dict[int, int] = {}
        self._initialised_at = -_CALM_SECONDS
        self._pause = FIRST_PAUSE
        self._library: _Library | None = None
        self._functions = _functions(path)

    @classmethod
    def acquire(cls, path: str, arguments: str | None) -> Cryptoki:
        """Return the loaded module. Providers of several tokens of a module share it, since C_Initialize applies to the process.

        Raises:
            ConfigurationError: It cannot be loaded, or another provider gives it other arguments.
        """
        real = os.path.realpath(path)
        with cls._lock:
            module = cls._open.get(real)
            if module is None:
                try:
                    module = cls(real, arguments)
                except (OSError, AttributeError, pkcs11.PKCS11Error) as e:
                    # Without the cause, whose text may come from the module.
                    problem = f"module: this PKCS#11 module cannot be loaded ({type(e).__name__})"
                    raise ConfigurationError([problem]) from None
                cls._open[real] = module
            if module._users and module._arguments != arguments:
                raise ConfigurationError(
                    [
                        "initialize_arguments: another provider gives the same PKCS#11 module different ones; make them equal"
                    ]
                )
            module._arguments = arguments
            module._users += 1
            return module

    def release(self, deadline: float) -> None:
        """Release the module. Its last user finalises it, unless a call in it hangs.

        Raises:
            ProviderError: A call in it hangs.
        """
        with Cryptoki._lock:
            self._users -= 1
        with self.gate.alone(deadline):
            if self.live and not self._users:
                self._call(_FINALIZE, None)
                self.live = False

    @property
    def library(self) -> _Library:
        """python-pkcs11's view of the module. Use it only inside the gate, and only once the module is initialised."""
        if self._library is None:
            self._library = _Library(self._path)
        return self._library

    def epoch(self, slot: int) -> tuple[int, int]:
        """Return a value that changes whenever we close the sessions with a slot."""
        return self.generation, self._closings.get(slot, 0)

    def resettable(self) -> bool:
        """Tell whether the pause after the last initialisation is over."""
        return stopwatch() >= self._initialised_at + self._pause

    def reinitialise(self, seen: int, deadline: float, *, finalised: bool = False) -> None:
        """Finalise the module if it is live, and initialise it, unless another thread has done so since `generation` was `seen`.

        Args:
            seen: The generation in which something failed.
            deadline: How long to wait for the calls inside.
            finalised: Whether other code finalised it, so that no pause is needed.

        Raises:
            PKCS11Error: It cannot be initialised; or the pause after the last initialisation is not over (`TooSoonError`).
            ProviderError: Calls inside do not end.
        """
        if self.live and not finalised and self.generation == seen:
            left = self._initialised_at + self._pause - stopwatch()
            if 0 < left <= _PATIENCE_SECONDS:
                time.sleep(left)
        with self.gate.alone(deadline):
            if self.live and self.generation != seen:
                return
            if self.live and not finalised and not self.resettable():
                raise TooSoonError
            if self.live:
                self._call(_FINALIZE, None)
            self.live = False
            now = stopwatch()
            calm = now >= self._initialised_at + _CALM_SECONDS
            self._pause = FIRST_PAUSE if calm else min(2 * self._pause, LONGEST_PAUSE)
            self._initialised_at = now
            self._initialise()
            self.live = True
            self.generation += 1

    def close_sessions(self, slot: int, seen: tuple[int, int], deadline: float) -> None:
        """Close all sessions with a slot, unless that was done since `epoch` was `seen`. This also logs out (v2.40 §5.6).

        They cannot be closed one by one: the handle of a session that no longer exists may have been given to a new one.

        Raises:
            ProviderError: Calls inside do not end.
        """
        with self.gate.alone(deadline):
            if self.epoch(slot) == seen:
                self._call(_CLOSE_ALL_SESSIONS, ctypes.c_ulong(slot))
                self._closings[slot] = self._closings.get(slot, 0) + 1

    def logged_in(self, session: int) -> bool:
        """Tell whether the session is logged in as the user (C_GetSessionInfo).

        Raises:
            PKCS11Error: The session does not exist, or the module failed.
        """
        info = _SessionInfo()
        self._checked(self._call(_SESSION_INFO, ctypes.c_ulong(session), ctypes.byref(info)))
        return info.state in _USER_STATES

    def login(self, session: int, pin: bytes) -> None:
        """Log the application in as the token's user, with any of its sessions (C_Login).

        Raises:
            PKCS11Error: The module refused or failed.
        """
        self._checked(self._call(_LOGIN, ctypes.c_ulong(session), ctypes.c_ulong(_USER), pin, ctypes.c_ulong(len(pin))))

    def _initialise(self) -> None:
        args = _InitializeArgs(flags=_OS_LOCKING_OK)
        if self._arguments is not None:
            args.reserved = self._arguments.encode()
        value = self._call(_INITIALIZE, ctypes.byref(args))
        if value == ALREADY_INITIALISED:
            # It was inherited through a fork, or initialised by other code, perhaps without locking. Then threads would crash.
            self._call(_FINALIZE, None)
            value = self._call(_INITIALIZE, ctypes.byref(args))
        self._checked(value)

    def _call(self, index: int, *args: Any) -> int:
        # Functions of ctypes release the GIL.
        function = ctypes.CFUNCTYPE(ctypes.c_ulong)(self._functions.functions[index])
        return int(function(*args))

    def _checked(self, value: int) -> None:
        if value != OK:
            raise from_value(value)

    @classmethod
    def _forget(cls) -> None:
        cls._open, cls._lock = {}, threading.Lock()


def _functions(path: str) -> _FunctionList:
    pointer = ctypes.POINTER(_FunctionList)()
    # Not through exported symbols: NSS softokn does not export C_Initialize.
    get_function_list = ctypes.CDLL(path).C_GetFunctionList
    get_function_list.restype = ctypes.c_ulong
    value = get_function_list(ctypes.byref(pointer))
    if value != OK:
        raise from_value(value)
    return pointer.contents


# A child cannot use its parent's module, locks and threads (v2.40 §6.6.1).
os.register_at_fork(after_in_child=Cryptoki._forget)  # noqa: SLF001 - defined in this file
