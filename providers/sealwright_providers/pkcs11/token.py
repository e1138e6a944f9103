"""One token: its sessions, its single login per process, and the recovery of both.

The recovery depends on what is broken (`Fault`). A call takes each step at most once. One thread takes a step for all, since the
others see that it is done:

| what fails | recovery |
|---|---|
| a key's handle | find the key again |
| the login | C_Login, and find the keys again; only a session that is logged in can tell that a key is missing |
| sessions | when no call is inside: C_CloseAllSessions; threads then open sessions and log in as they need them |
| the module, the token | when no call is inside: C_Finalize, C_Initialize; at most once a second if it goes on |
| the device, several calls in a row | the same, before the next call |
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final, TypeVar

import pkcs11
from pkcs11 import Attribute, SlotFlag, TokenFlag
from pkcs11.attributes import AttributeMapper

from sealwright.provider import ProviderAccessDeniedError, ProviderTimeoutError, ProviderUnavailableError
from sealwright_providers.pkcs11.cryptoki import Cryptoki
from sealwright_providers.pkcs11.errors import (
    Fault,
    ForeignAnswerError,
    LoginRefusedError,
    NoTokenError,
    fault_of,
    name_of,
    refuses_pin,
    to_provider_error,
)
from sealwright_providers.pkcs11.gate import held
from sealwright_providers.pkcs11.lanes import LaneSpentError
from sealwright_providers.pkcs11.settings import Pkcs11Settings
from sealwright_providers.pkcs11.uri import KeyName

log = logging.getLogger(__name__)

T = TypeVar("T")

PUBLIC_KEY_INFO: Final = 0x00000129
"""CKA_PUBLIC_KEY_INFO (v2.40 §4.9): SubjectPublicKeyInfo, DER. python-pkcs11 0.10 does not name it."""

_FAILURES_TO_RESET: Final = 3
_NO_LAST_TRY: Final = TokenFlag.USER_PIN_FINAL_TRY | TokenFlag.USER_PIN_LOCKED


@dataclass(slots=True)
class Lane:
    """The state of one thread.

    Attributes:
        session: Its session; None: it needs one.
        slot: The session's slot.
        epoch: `Cryptoki.epoch` when the session was opened.
        keys: Keys that it has found, as objects of its session, each with the algorithms that fit it.
    """

    session: pkcs11.Session | None = None
    slot: int = 0
    epoch: tuple[int, int] = (0, 0)
    keys: dict[KeyName, tuple[Any, frozenset[str]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Found:
    generation: int
    token: pkcs11.Token
    slot: int
    mechanisms: frozenset[int]
    hardware: bool


class Token:
    """The configured token. Methods run in lanes; deadlines are of `time.monotonic`.

    Attributes:
        objects: Lock for finding, generating and destroying keys: SoftHSM 2.6 fails at concurrent ones.
    """

    def __init__(self, settings: Pkcs11Settings, pin: bytes, module: Cryptoki) -> None:
        self.objects = Lock()
        self._settings = settings
        self._pin = pin
        self._module = module
        self._login = Lock()
        self._refused = False
        self._found: _Found | None = None
        self._failures = 0

    @property
    def mechanisms(self) -> frozenset[int]:
        """The mechanisms of the token (C_GetMechanismList). Use this and the methods below only inside `run`."""
        return self._current().mechanisms

    @property
    def hardware(self) -> bool:
        """Whether the slot is a hardware slot (CKF_HW_SLOT)."""
        return self._current().hardware

    def run(self, lane: Lane, deadline: float, work: Callable[[pkcs11.Session], T]) -> T:
        """Run a function with a session that is logged in, and recover from errors of the module.

        Args:
            lane: The thread's own state.
            deadline: When to stop.
            work: Runs again after a PKCS11Error that was repaired. A ProviderError ends it.

        Raises:
            ProviderError: The token refused or failed, and recovery did not help.
        """
        mended: set[Fault] = set()
        while True:
            if self._refused:
                raise LoginRefusedError(
                    "the token refused the PIN, and it is not tried again; correct the PIN and restart"
                )
            generation = self._module.generation
            try:
                self._bring_up(deadline)
                with self._module.gate.call(deadline):
                    generation = self._module.generation
                    result = work(self._ready(lane, deadline))
            except pkcs11.PKCS11Error as e:
                self._mend(e, lane, mended, generation, deadline)
            except (ValueError, KeyError, TypeError, NotImplementedError):
                # python-pkcs11 raises these for attributes that it cannot read.
                raise to_provider_error(ForeignAnswerError()) from None
            else:
                self._failures = 0
                return result

    def require_login(self, session: pkcs11.Session) -> None:
        """Check that a session exists and is logged in, before a search for objects and before its result is trusted.

        When logged out, private objects disappear without an error (v2.40 §4.4). And python-pkcs11 0.10 does not clean up
        after a search on a session that no longer exists.

        Raises:
            PKCS11Error: It does not exist, or is not logged in.
        """
        if not self._module.logged_in(_handle(session)) and session.token.flags & TokenFlag.LOGIN_REQUIRED:
            raise pkcs11.UserNotLoggedIn

    def require_presence(self) -> None:
        """Check that the token is still present, before a key is reported as missing.

        Raises:
            PKCS11Error: It is not present.
        """
        try:
            same = self._is_ours(self._current().token.slot.get_token())
        except pkcs11.PKCS11Error as e:
            raise NoTokenError from e
        if not same:
            raise NoTokenError

    def _bring_up(self, deadline: float) -> None:
        seen = self._module.generation
        if not self._module.live:
            self._module.reinitialise(seen, deadline)
        elif self._failures >= _FAILURES_TO_RESET and self._module.resettable():
            self._failures = 0
            log.warning(
                "the PKCS#11 device failed %d times in a row; initialising the module again", _FAILURES_TO_RESET
            )
            self._module.reinitialise(seen, deadline)

    def _mend(
        self,
        error: pkcs11.PKCS11Error,
        lane: Lane,
        mended: set[Fault],
        generation: int,
        deadline: float,
    ) -> None:
        """Repair what is broken, so that the call can be repeated.

        Raises:
            ProviderError: It cannot be repaired, or a repair did not help.
        """
        fault = fault_of(error)
        if fault is Fault.DEVICE:
            self._failures += 1
        if fault in {Fault.NOTHING, Fault.DEVICE} or fault in mended:
            raise to_provider_error(error) from error
        if time.monotonic() >= deadline:
            raise ProviderTimeoutError("the token did not answer before the deadline") from error
        mended.add(fault)
        lane.keys.clear()
        try:
            if fault is Fault.SESSIONS:
                log.info("sessions with the PKCS#11 token are lost; opening new ones")
                self._module.close_sessions(lane.slot, lane.epoch, deadline)
            elif fault is Fault.MODULE:
                log.info(
                    "the PKCS#11 module or its token is missing (%s); initialising the module again", name_of(error)
                )
                self._module.reinitialise(generation, deadline, finalised=name_of(error) == "0x190")
        except pkcs11.PKCS11Error as e:
            raise to_provider_error(error) from e

    def _ready(self, lane: Lane, deadline: float) -> pkcs11.Session:
        """Return the lane's session, open and logged in."""
        found = self._current()
        epoch = self._module.epoch(found.slot)
        if lane.session is None or lane.epoch != epoch:
            lane.keys.clear()
            lane.session, lane.slot, lane.epoch = None, found.slot, epoch
            with held(self._login, deadline):
                try:
                    lane.session = found.token.open(rw=True, attribute_mapper=_MAPPER)
                except pkcs11.SessionCount:
                    raise LaneSpentError from None
        if not lane.keys:
            with held(self._login, deadline):
                self._log_in(lane.session)
        return lane.session

    def _log_in(self, session: pkcs11.Session) -> None:
        if self._module.logged_in(_handle(session)):
            return
        if self._refused:
            raise LoginRefusedError("the token refused the PIN, and it is not tried again; correct the PIN and restart")
        flags = session.token.flags
        with suppress(pkcs11.PKCS11Error):  # SoftHSM fails here while another process logs in.
            flags = session.token.slot.get_token().flags
        if not flags & TokenFlag.LOGIN_REQUIRED:
            return
        if flags & _NO_LAST_TRY:
            # Leave the last try to a person, so that restarts do not lock the token.
            self._refused = True
            raise LoginRefusedError(
                "the PIN of the token is locked, or the next wrong one locks it; log in once with another tool"
            )
        try:
            self._module.login(_handle(session), self._pin)
        except pkcs11.UserAlreadyLoggedIn:
            pass
        except pkcs11.AnotherUserAlreadyLoggedIn:
            raise ProviderAccessDeniedError(
                "another part of this process is logged in to the token as its security officer"
            ) from None
        except pkcs11.PKCS11Error as e:
            if not refuses_pin(e):
                raise
            self._refused = True
            log.error("the PKCS#11 token refuses the PIN (%s)", name_of(e))  # noqa: TRY400 - a traceback adds nothing
            raise LoginRefusedError("the token refuses the PIN; correct it and restart") from e

    def _current(self) -> _Found:
        """Return the token. It is found once per generation of the module, since the slots get new numbers."""
        found = self._found
        if found is None or found.generation != self._module.generation:
            self._found = found = self._find()
        return found

    def _find(self) -> _Found:
        generation = self._module.generation
        matches = []
        for slot in self._module.library.get_slots():
            try:
                token = slot.get_token()
            except pkcs11.PKCS11Error:
                continue  # Another token's slot may be out of order.
            if self._is_ours(token):
                matches.append(token)
        if not matches:
            raise NoTokenError
        if len(matches) > 1:
            raise ProviderUnavailableError(
                "several tokens have the configured label or serial number; configure token_serial to choose one"
            )
        slot = matches[0].slot
        return _Found(
            generation,
            matches[0],
            slot.slot_id,
            frozenset(int(mechanism) for mechanism in slot.get_mechanisms()),
            bool(slot.flags & SlotFlag.HW_SLOT),
        )

    def _is_ours(self, token: pkcs11.Token) -> bool:
        if self._settings.token_label is not None:
            return token.label.rstrip(" \0") == self._settings.token_label
        return token.serial.decode("ascii", "replace").rstrip(" \0") == self._settings.token_serial


def _handle(session: pkcs11.Session) -> int:
    """Return the handle of a session. It is missing in the types of python-pkcs11."""
    return int(session.handle)  # type: ignore[attr-defined]


def _mapper() -> AttributeMapper:
    mapper = AttributeMapper()
    # Labels of keys from elsewhere need not be UTF-8.
    mapper.register_handler(Attribute.LABEL, lambda text: text.encode(), lambda raw: raw.decode(errors="replace"))
    mapper.register_handler(PUBLIC_KEY_INFO, bytes, bytes)  # type: ignore[arg-type]  # its enumeration lacks it
    return mapper


_MAPPER: Final = _mapper()
