"""One token: its sessions, its one login a process, and how both come back by themselves.

Recovery goes by what is broken (`Fault`), each step at most once a call, and each by one thread for all, since the others
see that it has been done:

| what fails | what is done |
|---|---|
| a key's handle | the key is looked for again |
| the login | C_Login, and keys are looked for again; "no such key" is believed of a session that is logged in only |
| sessions | once nobody is inside: C_CloseAllSessions; sessions and login are made anew by those who need them |
| the module, the token | once nobody is inside: C_Finalize, C_Initialize; in the long run once a second |
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

from sealwright.errors import ProviderAccessDeniedError, ProviderTimeoutError, ProviderUnavailableError
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
    """What one thread has of the token.

    Attributes:
        session: Its session; None: it needs one.
        slot: Where the session is.
        epoch: The time that it belongs to.
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
        objects: Held by who looks for, makes or destroys keys: SoftHSM 2.6 fails at several of these at once.
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
        """What the token offers (C_GetMechanismList). Inside `run` only, as all that follows."""
        return self._current().mechanisms

    @property
    def hardware(self) -> bool:
        """Whether the slot says that it is one (CKF_HW_SLOT)."""
        return self._current().hardware

    def run(self, lane: Lane, deadline: float, work: Callable[[pkcs11.Session], T]) -> T:
        """Do something with a session that is logged in, and recover from what it meets.

        Args:
            lane: The thread's own.
            deadline: Until when.
            work: May be done again, for as long as it raises PKCS11Error; a ProviderError ends it.

        Raises:
            ProviderError: As the token says.
        """
        mended: set[Fault] = set()
        while True:
            if self._refused:
                raise LoginRefusedError("the token has refused the PIN; it is not tried again before a restart")
            generation = self._module.generation
            try:
                self._bring_up(deadline)
                with self._module.gate.call(deadline):
                    generation = self._module.generation
                    result = work(self._ready(lane, deadline))
            except pkcs11.PKCS11Error as e:
                self._mend(e, lane, mended, generation, deadline)
            except (ValueError, KeyError, TypeError, NotImplementedError):
                # Of python-pkcs11, at attributes that it cannot read.
                raise to_provider_error(ForeignAnswerError()) from None
            else:
                self._failures = 0
                return result

    def require_login(self, session: pkcs11.Session) -> None:
        """See that a session lives and is logged in, before its answer "there is no such object" is believed.

        Logged out, private objects vanish without an error (v2.40 §4.4). Nor must a search begin on a session that is gone:
        python-pkcs11 0.10 does not clean up after it.

        Raises:
            PKCS11Error: It is not.
        """
        if not self._module.logged_in(_handle(session)) and session.token.flags & TokenFlag.LOGIN_REQUIRED:
            raise pkcs11.UserNotLoggedIn

    def require_presence(self) -> None:
        """See that the token is still there, before "there is no such key" is said of it.

        Raises:
            PKCS11Error: It is not.
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
            log.warning("the PKCS#11 device has failed several times in a row: the module is initialised again")
            self._module.reinitialise(seen, deadline)

    def _mend(
        self,
        error: pkcs11.PKCS11Error,
        lane: Lane,
        mended: set[Fault],
        generation: int,
        deadline: float,
    ) -> None:
        """Repair what is broken, so that the call can be made again.

        Raises:
            ProviderError: It cannot be repaired, or has been already and did not help.
        """
        fault = fault_of(error)
        if fault is Fault.DEVICE:
            self._failures += 1
        if fault in {Fault.NOTHING, Fault.DEVICE} or fault in mended:
            raise to_provider_error(error) from error
        if time.monotonic() >= deadline:
            raise ProviderTimeoutError("the token did not answer in time") from error
        mended.add(fault)
        lane.keys.clear()
        try:
            if fault is Fault.SESSIONS:
                log.info("sessions with the PKCS#11 token are lost: they are opened again")
                self._module.close_sessions(lane.slot, lane.epoch, deadline)
            elif fault is Fault.MODULE:
                log.info("the PKCS#11 module or its token is gone (%s): it is initialised again", name_of(error))
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
            raise LoginRefusedError("the token has refused the PIN; it is not tried again before a restart")
        flags = session.token.flags
        with suppress(pkcs11.PKCS11Error):  # SoftHSM fails at it while another process logs in.
            flags = session.token.slot.get_token().flags
        if not flags & TokenFlag.LOGIN_REQUIRED:
            return
        if flags & _NO_LAST_TRY:
            # The last try is left to a person, so that restarts do not lock the token.
            self._refused = True
            raise LoginRefusedError("the token's PIN is locked, or one wrong try away from it: log in by hand once")
        try:
            self._module.login(_handle(session), self._pin)
        except pkcs11.UserAlreadyLoggedIn:
            pass
        except pkcs11.AnotherUserAlreadyLoggedIn:
            raise ProviderAccessDeniedError("this process is logged in to the token as its security officer") from None
        except pkcs11.PKCS11Error as e:
            if not refuses_pin(e):
                raise
            self._refused = True
            log.error("the PKCS#11 token does not take the PIN (%s)", name_of(e))  # noqa: TRY400 - no more is known
            raise LoginRefusedError("the token does not take the PIN") from e

    def _current(self) -> _Found:
        """Return the token, looked for once in each life of the module: slots are numbered anew."""
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
                continue  # Another's slot may be out of order.
            if self._is_ours(token):
                matches.append(token)
        if not matches:
            raise NoTokenError
        if len(matches) > 1:
            raise ProviderUnavailableError("several tokens are as the configured one; token_serial tells them apart")
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
    """Return the number of a session; python-pkcs11 has it, and its types do not."""
    return int(session.handle)  # type: ignore[attr-defined]


def _mapper() -> AttributeMapper:
    mapper = AttributeMapper()
    # Labels of others need not be UTF-8.
    mapper.register_handler(Attribute.LABEL, lambda text: text.encode(), lambda raw: raw.decode(errors="replace"))
    mapper.register_handler(PUBLIC_KEY_INFO, bytes, bytes)  # type: ignore[arg-type]  # its enumeration lacks it
    return mapper


_MAPPER: Final = _mapper()
