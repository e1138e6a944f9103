"""Maps return values of PKCS#11 (v2.40 §5.1) to our errors, and to what must be repaired.

python-pkcs11 has a class for most of them, and raises a bare `PKCS11Error` with a fixed text for the rest. Texts are dropped.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

from pkcs11 import exceptions as p11

from sealwright.provider import (
    ProviderAccessDeniedError,
    ProviderError,
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
)


class Fault(Enum):
    """What is broken, from the smallest part to the largest."""

    NOTHING = auto()
    """Nothing: the module works, and refuses the call."""
    KEY = auto()
    """The handle of a key is no longer valid. Repair: find the key again."""
    LOGIN = auto()
    """The application is logged out. Repair: log in and find the keys again. The sessions stay open."""
    SESSIONS = auto()
    """Sessions no longer exist. Repair: close all and open new ones."""
    MODULE = auto()
    """The module is not initialised, or its token is missing. Repair: finalise and initialise the module."""
    DEVICE = auto()
    """The device fails, or is busy. No immediate repair: AWS CloudHSM throttles with CKR_DEVICE_ERROR, and initialising the module
    after each such error would keep it down."""


class LoginRefusedError(ProviderAccessDeniedError):
    """The token refused the PIN. The provider does not try it again until the configuration is reloaded."""


class NoTokenError(p11.PKCS11Error):
    """No slot contains the configured token."""


class ForeignAnswerError(p11.PKCS11Error):
    """The module returned something that PKCS#11 does not define."""


class TooSoonError(p11.PKCS11Error):
    """The module was initialised a moment ago, so initialising it again would not help."""


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

_MISSING: Final = ("the key does not exist in the token", ProviderKeyMissingError)
_DISABLED: Final = ("the key in the token may not sign", ProviderKeyDisabledError)
_DENIED: Final = ("the token does not permit its user this operation", ProviderAccessDeniedError)
_UNSUPPORTED: Final = ("the token does not support this operation for the key", ProviderUnsupportedError)
_UNAVAILABLE: Final = ("the PKCS#11 module reports a failure", ProviderUnavailableError)
_NO_TOKEN: Final = ("no slot of the PKCS#11 module contains the configured token", ProviderUnavailableError)

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

# What C_Login returns if the HSM fails. The token may count every other error as a wrong PIN.
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
    """Return the error that python-pkcs11 would raise for a CK_RV."""
    kind = _BY_VALUE.get(value)
    return p11.PKCS11Error(f"Unmapped error code {value:#x}") if kind is None else kind()


def name_of(error: p11.PKCS11Error) -> str:
    """Return the name of an error: its class, or for a bare `PKCS11Error` its code in hexadecimal."""
    if type(error) is not p11.PKCS11Error:
        return type(error).__name__
    text = str(error)
    if "(not initialized)" in text:
        return _NOT_INITIALISED
    match = _CODE.match(text)
    return match[1] if match else "PKCS11Error"


def fault_of(error: p11.PKCS11Error) -> Fault:
    """Return what is broken if a call ends with this error."""
    name = name_of(error)
    return _FAULTS.get(name) or (Fault.NOTHING if name in _ANSWERS else Fault.DEVICE)


def refuses_pin(error: p11.PKCS11Error) -> bool:
    """Tell whether the token may have counted an error of C_Login as a wrong PIN."""
    return name_of(error) not in _NOT_OF_THE_PIN


def to_provider_error(error: p11.PKCS11Error) -> ProviderError:
    """Return our error for an error of the module."""
    name = name_of(error)
    message, kind = _ANSWERS.get(name, _UNAVAILABLE)
    ours = kind(message)
    ours.detail = name
    return ours
