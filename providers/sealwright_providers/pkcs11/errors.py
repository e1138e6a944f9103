"""Return values of PKCS#11 (v2.40 §5.1) as ours, and what each says of how to go on.

python-pkcs11 makes a class of most of them, and a bare `PKCS11Error` with a fixed text of the rest. Texts are dropped.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

from pkcs11 import exceptions as p11

from sealwright.errors import (
    ProviderAccessDeniedError,
    ProviderError,
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
)


class Fault(Enum):
    """What is broken, from the least to the most."""

    NOTHING = auto()
    """The module works, and says no."""
    KEY = auto()
    """A handle of a key is no good any more: it is looked for again."""
    LOGIN = auto()
    """The application is logged out: it logs in again. Keys are looked for again, sessions stay."""
    SESSIONS = auto()
    """Sessions are gone: all are closed and opened again."""
    MODULE = auto()
    """The module is not initialised, or its token is gone: it is finalised and initialised."""
    DEVICE = auto()
    """The device fails, or is busy: nothing is done at once, since AWS CloudHSM throttles with CKR_DEVICE_ERROR, and a module that
    is initialised again at every hiccup never comes to rest."""


class LoginRefusedError(ProviderAccessDeniedError):
    """The token does not take the PIN. It is not tried again before the configuration is loaded anew."""


class NoTokenError(p11.PKCS11Error):
    """No slot holds the configured token."""


class ForeignAnswerError(p11.PKCS11Error):
    """The module answered something that PKCS#11 does not have."""


class TooSoonError(p11.PKCS11Error):
    """The module has been initialised only just, and initialising it again would help no better."""


OK: Final = 0
ALREADY_INITIALISED: Final = 0x191

_NOT_INITIALISED: Final = "0x190"
_BY_VALUE: Final[dict[int, type[p11.PKCS11Error]]] = {
    0x002: p11.HostMemory,
    0x003: p11.SlotIDInvalid,
    0x005: p11.GeneralError,
    0x006: p11.FunctionFailed,
    0x007: p11.ArgumentsBad,
    0x030: p11.DeviceError,
    0x031: p11.DeviceMemory,
    0x032: p11.DeviceRemoved,
    0x050: p11.FunctionCancelled,
    0x090: p11.OperationActive,
    0x0A0: p11.PinIncorrect,
    0x0A1: p11.PinInvalid,
    0x0A2: p11.PinLenRange,
    0x0A3: p11.PinExpired,
    0x0A4: p11.PinLocked,
    0x0B0: p11.SessionClosed,
    0x0B3: p11.SessionHandleInvalid,
    0x0E0: p11.TokenNotPresent,
    0x0E1: p11.TokenNotRecognised,
    0x100: p11.UserAlreadyLoggedIn,
    0x102: p11.UserPinNotInitialized,
    0x104: p11.AnotherUserAlreadyLoggedIn,
}
_CODE = re.compile(r"Unmapped error code (0x[0-9a-f]+)")

_FAULTS: Final[dict[str, Fault]] = {
    **dict.fromkeys(("ObjectHandleInvalid", "KeyHandleInvalid"), Fault.KEY),
    "UserNotLoggedIn": Fault.LOGIN,
    **dict.fromkeys(("SessionHandleInvalid", "SessionClosed", "OperationActive"), Fault.SESSIONS),
    **dict.fromkeys(
        (
            _NOT_INITIALISED,
            "DeviceRemoved",
            "TokenNotPresent",
            "TokenNotRecognised",
            "SlotIDInvalid",
            "NoTokenError",
        ),
        Fault.MODULE,
    ),
}

_MISSING: Final = ("the token has no such key", ProviderKeyMissingError)
_DISABLED: Final = ("the key of the token may not sign", ProviderKeyDisabledError)
_DENIED: Final = ("the token refuses that to its user", ProviderAccessDeniedError)
_UNSUPPORTED: Final = ("the token does not do that with this key", ProviderUnsupportedError)
_UNAVAILABLE: Final = ("the PKCS#11 module does not work now", ProviderUnavailableError)
_NO_TOKEN: Final = ("the configured token is not there", ProviderUnavailableError)

_ANSWERS: Final[dict[str, tuple[str, type[ProviderError]]]] = {
    **dict.fromkeys(("ObjectHandleInvalid", "KeyHandleInvalid"), _MISSING),
    # CKR_KEY_FUNCTION_NOT_PERMITTED
    "0x68": _DISABLED,
    # CKR_ACTION_PROHIBITED
    **dict.fromkeys(
        ("0x1b", "TokenWriteProtected", "SessionReadOnly", "AttributeReadOnly", "FunctionRejected"), _DENIED
    ),
    **dict.fromkeys(
        (
            "AttributeTypeInvalid",
            "AttributeValueInvalid",
            "DataInvalid",
            "DataLenRange",
            "DomainParamsInvalid",
            "FunctionNotSupported",
            "KeySizeRange",
            "KeyTypeInconsistent",
            "MechanismInvalid",
            "MechanismParamInvalid",
            "TemplateIncomplete",
            "TemplateInconsistent",
            # CKR_CURVE_NOT_SUPPORTED
            "0x140",
        ),
        _UNSUPPORTED,
    ),
    **dict.fromkeys(("TokenNotPresent", "TokenNotRecognised", "NoTokenError"), _NO_TOKEN),
}

# What C_Login says of an HSM that fails. Whatever else it says may count as a wrong PIN.
_NOT_OF_THE_PIN: Final = frozenset(
    {
        "DeviceError",
        "DeviceMemory",
        "FunctionCancelled",
        "FunctionFailed",
        "GeneralError",
        "HostMemory",
        "UserPinNotInitialized",
        *(name for name, fault in _FAULTS.items() if fault is not Fault.NOTHING),
    }
)


def from_value(value: int) -> p11.PKCS11Error:
    """Return a CK_RV as python-pkcs11 would raise it."""
    kind = _BY_VALUE.get(value)
    return p11.PKCS11Error(f"Unmapped error code {value:#x}") if kind is None else kind()


def name_of(error: p11.PKCS11Error) -> str:
    """Return the name of an error: its class, or for a bare one the code in hexadecimal."""
    if type(error) is not p11.PKCS11Error:
        return type(error).__name__
    text = str(error)
    if "(not initialized)" in text:
        return _NOT_INITIALISED
    match = _CODE.match(text)
    return match[1] if match else "PKCS11Error"


def fault_of(error: p11.PKCS11Error) -> Fault:
    """Return what is broken where a call ends with that error."""
    name = name_of(error)
    return _FAULTS.get(name) or (Fault.NOTHING if name in _ANSWERS else Fault.DEVICE)


def refuses_pin(error: p11.PKCS11Error) -> bool:
    """Tell whether an error of C_Login may have been counted as a wrong PIN."""
    return name_of(error) not in _NOT_OF_THE_PIN


def to_provider_error(error: p11.PKCS11Error) -> ProviderError:
    """Return our error for one of the module."""
    message, kind = _ANSWERS.get(name_of(error), _UNAVAILABLE)
    return kind(message)
