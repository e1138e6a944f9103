"""A PKCS#11 module in this process: loaded once, initialised with locking, finalised only when nobody is inside.

python-pkcs11 itself calls C_Initialize(NULL), which says "I have one thread" (v2.40 §5.4), and lets go of the GIL around calls:
SoftHSM then leaves its locks away, and two threads crash the process. Hence C_Initialize, and what else python-pkcs11
has not got, goes through the module's own function list (v2.40 §5.2, C_GetFunctionList).
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from typing import Any, ClassVar, Final

import pkcs11
from pkcs11 import _pkcs11

from sealwright.errors import ConfigurationError
from sealwright_providers.pkcs11.errors import ALREADY_INITIALISED, OK, TooSoonError, from_value
from sealwright_providers.pkcs11.gate import Gate

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0
"""A module that has been initialised stays so for the first of these, for twice as long after each time, and for the last of
them in the end; unless somebody else finalises it."""

_PATIENCE_SECONDS: Final = 0.1
"""How long a call waits for such a pause to end. SoftHSM does not see a token while another process writes to it."""

_CALM_SECONDS: Final = 10.0
"""After that long without, it is the first time again."""

_OS_LOCKING_OK: Final = 0x00000002
_USER: Final = 1
_USER_STATES: Final = frozenset({1, 3})
# Places in CK_FUNCTION_LIST (v2.40 §3.6), the same in every version of it.
_INITIALIZE, _FINALIZE, _CLOSE_ALL_SESSIONS, _SESSION_INFO, _LOGIN = 0, 1, 14, 15, 18
_FUNCTIONS: Final = 68


class _FunctionList(ctypes.Structure):
    _fields_ = (("version", ctypes.c_ubyte * 2), ("functions", ctypes.c_void_p * _FUNCTIONS))


class _InitializeArgs(ctypes.Structure):
    # CK_C_INITIALIZE_ARGS, and a pointer more: NSS softokn has a field of its own before pReserved, and takes its text from there.
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


class _Library(_pkcs11.lib):
    """python-pkcs11's view of a module that is initialised and finalised elsewhere."""

    def initialize(self) -> None:
        """Leave it to `Cryptoki`."""


class Cryptoki:
    """The module of one path. Deadlines are of `time.monotonic`.

    Attributes:
        gate: Every call into the module is made inside it.
        generation: How often it was initialised here. What was got before belongs to another life of the module.
        live: Whether it is initialised, as far as we know.
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
        """Return the module, loaded. Providers of several tokens of a module share it, since C_Initialize is once a process.

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
                    # Without its cause, whose text may be the module's.
                    problem = f"the PKCS#11 module cannot be loaded ({type(e).__name__})"
                    raise ConfigurationError([problem]) from None
                cls._open[real] = module
            if module._users and module._arguments != arguments:
                raise ConfigurationError(["two providers give one PKCS#11 module different initialize_arguments"])
            module._arguments = arguments
            module._users += 1
            return module

    def release(self, deadline: float) -> None:
        """Give the module back. Its last user finalises it, unless a call in it hangs.

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
        """python-pkcs11's view of it. Only inside the gate, and only once it is initialised."""
        if self._library is None:
            self._library = _Library(self._path)
        return self._library

    def epoch(self, slot: int) -> tuple[int, int]:
        """Return what stays the same for as long as sessions with a slot are not closed by us."""
        return self.generation, self._closings.get(slot, 0)

    def resettable(self) -> bool:
        """Tell whether the module has been initialised for long enough."""
        return time.monotonic() >= self._initialised_at + self._pause

    def reinitialise(self, seen: int, deadline: float, *, finalised: bool = False) -> None:
        """Initialise the module, and finalise it before where it is live, unless another thread has since `generation` was `seen`.

        Args:
            seen: The generation in which something failed.
            deadline: Until when calls inside may be waited for.
            finalised: Somebody else finalised it, so there is nothing to lose.

        Raises:
            PKCS11Error: It cannot be initialised; or only just was, and shall not be again so soon (`TooSoonError`).
            ProviderError: Calls inside do not end.
        """
        if self.live and not finalised and self.generation == seen:
            left = self._initialised_at + self._pause - time.monotonic()
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
            now = time.monotonic()
            calm = now >= self._initialised_at + _CALM_SECONDS
            self._pause = FIRST_PAUSE if calm else min(2 * self._pause, LONGEST_PAUSE)
            self._initialised_at = now
            self._initialise()
            self.live = True
            self.generation += 1

    def close_sessions(self, slot: int, seen: tuple[int, int], deadline: float) -> None:
        """Close all sessions with a slot, unless that was done since `epoch` was `seen`. It logs out, too (v2.40 §5.6).

        One by one they cannot be closed: the number of a session that is gone may be another's by now.

        Raises:
            ProviderError: Calls inside do not end.
        """
        with self.gate.alone(deadline):
            if self.epoch(slot) == seen:
                self._call(_CLOSE_ALL_SESSIONS, ctypes.c_ulong(slot))
                self._closings[slot] = self._closings.get(slot, 0) + 1

    def logged_in(self, session: int) -> bool:
        """Tell whether the session is the user's (C_GetSessionInfo); fails where there is no such session.

        Raises:
            PKCS11Error: As the module says.
        """
        info = _SessionInfo()
        self._checked(self._call(_SESSION_INFO, ctypes.c_ulong(session), ctypes.byref(info)))
        return info.state in _USER_STATES

    def login(self, session: int, pin: bytes) -> None:
        """Log the application in as the token's user, by any of its sessions (C_Login).

        Raises:
            PKCS11Error: As the module says.
        """
        self._checked(self._call(_LOGIN, ctypes.c_ulong(session), ctypes.c_ulong(_USER), pin, ctypes.c_ulong(len(pin))))

    def _initialise(self) -> None:
        args = _InitializeArgs(flags=_OS_LOCKING_OK)
        if self._arguments is not None:
            args.reserved = self._arguments.encode()
        value = self._call(_INITIALIZE, ctypes.byref(args))
        if value == ALREADY_INITIALISED:
            # Inherited through a fork, or by somebody else, who may have done it without locking: in such a module threads crash.
            self._call(_FINALIZE, None)
            value = self._call(_INITIALIZE, ctypes.byref(args))
        self._checked(value)

    def _call(self, index: int, *args: Any) -> int:
        # Functions of ctypes let go of the GIL.
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
    # Not by the exported symbols: NSS softokn exports no C_Initialize.
    get_function_list = ctypes.CDLL(path).C_GetFunctionList
    get_function_list.restype = ctypes.c_ulong
    value = get_function_list(ctypes.byref(pointer))
    if value != OK:
        raise from_value(value)
    return pointer.contents


# The parent's module, its locks and its threads are nothing to a child (v2.40 §6.6.1).
os.register_at_fork(after_in_child=Cryptoki._forget)  # noqa: SLF001 - of this file
