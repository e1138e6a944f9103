"""Replaces functions of a PKCS#11 module: counts sessions, corrupts signatures, and swaps keys.

The module must keep its list where it can be written to, as `pkcs11_faults.c` does.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from sealwright_providers.pkcs11.cryptoki import _FunctionList

FINALIZE, OPEN_SESSION, CLOSE_SESSION, CLOSE_ALL_SESSIONS = 1, 12, 13, 14
GET_ATTRIBUTE_VALUE, FIND_OBJECTS_INIT, FIND_OBJECTS, FIND_OBJECTS_FINAL, SIGN_INIT, SIGN = 24, 26, 27, 28, 42, 43
CKA_CLASS, CKA_KEY_TYPE, CKA_SIGN, CKA_VALUE_LEN, CKA_EC_PARAMS = 0x0, 0x100, 0x108, 0x161, 0x180
KIND = {CKA_CLASS: 8, CKA_KEY_TYPE: 8, CKA_SIGN: 1, CKA_VALUE_LEN: 8, CKA_EC_PARAMS: 64}
"""With sizes, since softokn accepts numbers only in their exact size."""
ARGUMENTS = (ctypes.c_void_p,) * 5
Function = ctypes.CFUNCTYPE(ctypes.c_ulong, *ARGUMENTS)
Calling = Callable[..., int]


class Attribute(ctypes.Structure):
    _fields_ = (("type", ctypes.c_ulong), ("value", ctypes.c_void_p), ("size", ctypes.c_ulong))


class CryptokiTap:
    """Replaces some functions of a module. Use one for each copy of the module in a process."""

    def __init__(self, path: str) -> None:
        pointer = ctypes.POINTER(_FunctionList)()
        library = ctypes.CDLL(path)
        assert library.C_GetFunctionList(ctypes.byref(pointer)) == 0
        self._list = pointer.contents
        self._kept: list[Any] = []
        self.sessions: set[int] = set()
        self.corrupt = self.truncate = self.confuse = False
        before: dict[int, Callable[..., int]] = {
            FINALIZE: self._all_closed,
            OPEN_SESSION: self._opened,
            CLOSE_SESSION: self._closed,
            CLOSE_ALL_SESSIONS: self._all_closed,
            SIGN_INIT: self._sign_init,
            SIGN: self._sign,
        }
        for place, function in before.items():
            self._stand_before(place, function)

    def reset(self) -> None:
        self.corrupt = self.truncate = self.confuse = False

    def _stand_before(self, place: int, function: Callable[..., int]) -> None:
        theirs = Function(self._list.functions[place])

        def ours(*arguments: int | None) -> int:
            return function(theirs, *(argument or 0 for argument in arguments))

        callback = Function(ours)
        self._kept.append(callback)  # Keep it, since the module has only its address.
        self._list.functions[place] = ctypes.cast(callback, ctypes.c_void_p).value

    def _opened(self, theirs: Calling, *arguments: int) -> int:
        value = theirs(*arguments)
        if value == 0:
            self.sessions.add(ctypes.c_ulong.from_address(arguments[4]).value)
        return value

    def _closed(self, theirs: Calling, *arguments: int) -> int:
        self.sessions.discard(arguments[0])
        return theirs(*arguments)

    def _all_closed(self, theirs: Calling, *arguments: int) -> int:
        self.sessions.clear()
        return theirs(*arguments)

    def _sign_init(self, theirs: Calling, session: int, mechanism: int, key: int, *rest: int) -> int:
        return theirs(session, mechanism, self._another(session, key) if self.confuse else key, *rest)

    def _sign(self, theirs: Calling, *arguments: int) -> int:
        value = theirs(*arguments)
        signature, length = arguments[3:]
        if value == 0 and signature:
            count = ctypes.c_ulong.from_address(length)
            if self.corrupt:
                ctypes.c_ubyte.from_address(signature + count.value - 1).value ^= 1
            if self.truncate:
                count.value -= 1
        return value

    def _another(self, session: int, key: int) -> int:
        """Return another key of the same kind."""
        kind = self._kind(session, key)
        found, number = (ctypes.c_ulong * 1000)(), ctypes.c_ulong()
        assert self._call(FIND_OBJECTS_INIT, session, 0, 0) == 0
        self._call(FIND_OBJECTS, session, ctypes.addressof(found), len(found), ctypes.addressof(number))
        self._call(FIND_OBJECTS_FINAL, session)
        return next(h for h in found[: number.value] if h != key and self._kind(session, h) == kind)

    def _kind(self, session: int, key: int) -> list[bytes]:
        """Return the attributes that define a kind of key. They are not a template: softokn cannot search by all of them."""
        values = []
        for attribute, size in KIND.items():
            room = ctypes.create_string_buffer(size)
            asked = Attribute(attribute, ctypes.addressof(room), size)
            refused = self._call(GET_ATTRIBUTE_VALUE, session, key, ctypes.addressof(asked), 1)
            values.append(b"" if refused else room.raw[: asked.size])
        return values

    def _call(self, place: int, *arguments: int) -> int:
        return int(Function(self._list.functions[place])(*arguments, *[0] * (len(ARGUMENTS) - len(arguments))))
