from __future__ import annotations

import inspect
import re
import threading
import time

import pkcs11
import pytest
from pkcs11 import exceptions

from sealwright.errors import (
    ProviderAccessDeniedError,
    ProviderError,
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
)
from sealwright_providers.pkcs11.errors import Fault, fault_of, from_value, name_of, refuses_pin, to_provider_error
from sealwright_providers.pkcs11.gate import Gate, held

ALL = [kind for _, kind in inspect.getmembers(exceptions, inspect.isclass) if issubclass(kind, pkcs11.PKCS11Error)]


def bare(value: int) -> pkcs11.PKCS11Error:
    return pkcs11.PKCS11Error(f"Unmapped error code {value:#x}")


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_one_of_ours_and_its_text_is_dropped(kind: type[pkcs11.PKCS11Error]) -> None:
    secret = "token jwt pin 1234 /usr/lib/m.so"
    error = to_provider_error(kind(secret))
    assert isinstance(error, ProviderError)
    assert type(error) is not ProviderError
    assert not re.search(r"jwt|1234|m\.so", str(error))
    assert fault_of(kind(secret)) in Fault


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (bare(0x68), ProviderKeyDisabledError),
        (bare(0x1B), ProviderAccessDeniedError),
        (bare(0x140), ProviderUnsupportedError),
        (bare(0x80000001), ProviderUnavailableError),
        (exceptions.KeyHandleInvalid(), ProviderKeyMissingError),
        (exceptions.DeviceError(), ProviderUnavailableError),
        (exceptions.MechanismInvalid(), ProviderUnsupportedError),
        (exceptions.TokenWriteProtected(), ProviderAccessDeniedError),
        (pkcs11.PKCS11Error("what is that"), ProviderUnavailableError),
    ],
)
def test_errors_say_what_they_mean(error: pkcs11.PKCS11Error, expected: type[ProviderError]) -> None:
    assert type(to_provider_error(error)) is expected


def test_what_is_broken_is_told_from_what_is_refused() -> None:
    uninitialised = pkcs11.PKCS11Error("Initialisation error (not initialized). Should never see this.")
    assert name_of(uninitialised) == name_of(from_value(0x190)) == "0x190"
    assert fault_of(uninitialised) is Fault.MODULE
    assert fault_of(from_value(0xB3)) is Fault.SESSIONS
    assert fault_of(from_value(0x80000001)) is Fault.DEVICE
    assert fault_of(bare(0x68)) is Fault.NOTHING
    assert fault_of(exceptions.MechanismInvalid()) is Fault.NOTHING


def test_c124_only_what_is_known_not_to_be_the_pin_is_tried_again() -> None:
    for value in (0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0x80000042, 0x7):
        assert refuses_pin(from_value(value))
    for value in (0x30, 0x32, 0x5, 0xB3, 0xE0, 0x190):
        assert not refuses_pin(from_value(value))


def in_background(gate: Gate, *, seconds: float, deadline: float) -> threading.Thread:
    inside = threading.Event()

    def stay() -> None:
        with gate.call(time.monotonic() + deadline):
            inside.set()
            time.sleep(seconds)

    thread = threading.Thread(target=stay)
    thread.start()
    inside.wait()
    return thread


def test_who_wants_to_be_alone_waits_for_the_others() -> None:
    gate = Gate()
    thread = in_background(gate, seconds=0.2, deadline=5)
    with gate.alone(time.monotonic() + 5):
        assert not gate._inside
    thread.join()


def test_nobody_waits_for_a_call_that_hangs() -> None:
    gate = Gate()
    thread = in_background(gate, seconds=1.5, deadline=0.1)
    start = time.monotonic()
    with pytest.raises(ProviderUnavailableError, match="hangs"), gate.alone(start + 5):
        pass
    assert time.monotonic() - start < 1.2
    with gate.call(time.monotonic() + 1):
        pass  # Other calls enter and leave meanwhile.
    thread.join()


def test_a_deadline_is_kept_at_the_gate() -> None:
    gate = Gate()
    thread = in_background(gate, seconds=0.3, deadline=5)
    with pytest.raises(ProviderTimeoutError), gate.alone(time.monotonic() + 0.05):
        pass
    thread.join()
    with gate.alone(time.monotonic() + 5):
        with pytest.raises(ProviderTimeoutError), gate.call(time.monotonic() + 0.05):
            pass
        with pytest.raises(ProviderTimeoutError), gate.alone(time.monotonic() + 0.05):
            pass
    with gate.alone(time.monotonic() + 0.01):
        time.sleep(0.05)
        with (
            pytest.raises(ProviderUnavailableError, match="reset of the PKCS#11 module hangs"),
            gate.call(time.monotonic() + 5),
        ):
            pass


def test_a_lock_is_waited_for_up_to_the_deadline() -> None:
    lock = threading.Lock()
    with held(lock, time.monotonic() + 1):
        with pytest.raises(ProviderTimeoutError), held(lock, time.monotonic() + 0.02):
            pass
        with pytest.raises(ProviderTimeoutError), held(lock, time.monotonic() - 5):
            pass
    assert not lock.locked()
