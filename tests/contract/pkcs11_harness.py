"""A harness for the `pkcs11` provider on a token, behind a module that fails on demand."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from contract.cryptoki_tap import CryptokiTap
from sealwright.jose.algorithms import Algorithm
from sealwright.provider import KeyDeleter, KeyDisabler, KeyProvider, Protection
from sealwright_providers.pkcs11 import FACTORY
from sealwright_providers.pkcs11.settings import Pkcs11Settings
from sealwright_providers.pkcs11.uri import KeyName, KeyUris
from sealwright_testing.contract import CannotError, Fault, Harness, KeyState, Outcome
from sealwright_testing.pkcs11_faults import Call, FaultyModule

DEVICE_ERROR, ACTION_PROHIBITED = 0x30, 0x1B
COUNTED = (Call.OPEN_SESSION, Call.FIND_OBJECTS_INIT, Call.SIGN_INIT, Call.GENERATE_KEY_PAIR)
"""Without C_Initialize and C_Login, which the provider calls for its recovery."""
HANGING = (Call.OPEN_SESSION, Call.FIND_OBJECTS_INIT, Call.SIGN_INIT, Call.SIGN, Call.GENERATE_KEY_PAIR)
FOREVER = 600_000

NO_ML_DSA = (
    "the provider has no row for it: PKCS#11 3.2 defines CKM_ML_DSA, and neither SoftHSM 2.6 nor NSS here has it"
)

IMPOSSIBLE: dict[str | tuple[Outcome, str], str] = {
    **dict.fromkeys(("ML-DSA-44", "ML-DSA-65", "ML-DSA-87"), NO_ML_DSA),
    Outcome.OTHER_VERSION: "keys have no versions, and C_Sign does not return which key signed",
    Outcome.PENDING_DELETION: "PKCS#11 has no waiting period: a destroyed key is missing",
    Outcome.NOT_YET_ENABLED: "a key can sign from the moment of its generation",
    Outcome.THROTTLED: "PKCS#11 has no error for it; AWS CloudHSM returns CKR_DEVICE_ERROR",
    Outcome.THROTTLED_WITH_RETRY_AFTER: "PKCS#11 has no error for it, and none with a time",
}


class TokenOfTests(Protocol):
    """`SoftHsm` or `NssToken`."""

    def settings(self, **more: Any) -> dict[str, Any]: ...


class Pkcs11Harness(Harness):
    protection = Protection.SOFTWARE

    def __init__(
        self, name: str, token: TokenOfTests, module: FaultyModule, impossible: Mapping[str | tuple[Outcome, str], str]
    ) -> None:
        super().__init__()
        self.name = name
        self.impossible = {**IMPOSSIBLE, **impossible}
        # So few that a burst of quick calls opens all of them: they are opened for calls that have to wait.
        self._settings = Pkcs11Settings(**token.settings(module=module.path, sessions=4))
        self._module = module
        self._tap = CryptokiTap(module.path)
        self._uris = KeyUris(self._settings)
        pin = Path(self._settings.pin_file or os.devnull).read_text(encoding="ascii").strip()
        self.words = (pin, module.path, str(self._settings.pin_file), "CKR_", "PKCS11Error", "pkcs11.exceptions")
        key_id = "%01" * 16
        label = (self._settings.token_label or "").replace(" ", "%20")
        self.foreign = (
            f"pkcs11:token=another;id={key_id};type=private",
            f"pkcs11:serial=1234567890;id={key_id};type=private",
            f"pkcs11:token={label};id={key_id};type=cert",
            f"pkcs11:token={label};id={key_id}",
            f"pkcs11:token={label};type=private",
            f"pkcs11:token={label};object=name;type=private",
            f"pkcs11:token={label};id={key_id};type=private;slot-id=0",
            f"pkcs11:token={label};id={key_id};type=private?module-path=/lib/evil.so",
            f"pkcs11:token={label};id={key_id};type=private?pin-value=0000",
        )

    async def open(self) -> KeyProvider:
        return await FACTORY.open(self._settings)

    def unknown(self, algorithm: Algorithm) -> str:
        return self._uris.format(KeyName(secrets.token_bytes(16), secret=algorithm.symmetric))

    async def key(self, provider: KeyProvider, algorithm: Algorithm) -> str:
        if algorithm.name not in self._keys:
            # Create a second key, for the module to swap it with.
            await self.make_key(provider, algorithm)
        return await super().key(provider, algorithm)

    async def put(self, provider: KeyProvider, uri: str, state: KeyState) -> None:
        if state is KeyState.DISABLED and isinstance(provider, KeyDisabler):
            await provider.disable(uri, timeout=20)
        elif state is KeyState.PENDING_DELETION and isinstance(provider, KeyDeleter):
            await provider.schedule_deletion(uri, timeout=20)
        else:
            raise CannotError("PKCS#11 has no such state")

    @contextmanager
    def arm(self, fault: Fault) -> Iterator[None]:
        try:
            match fault:
                case Fault.CORRUPTED_SIGNATURE:
                    self._tap.corrupt = True
                case Fault.TRUNCATED_SIGNATURE:
                    self._tap.truncate = True
                case Fault.OTHER_KEY | Fault.OTHER_VERSION:
                    self._tap.confuse = True
                case Fault.DENIED:
                    self._fail(ACTION_PROHIBITED)
                case Fault.SLOW:
                    for call in HANGING:
                        self._module.delay(call, FOREVER)
                case Fault.UNAVAILABLE | Fault.THROTTLED | Fault.THROTTLED_WITH_RETRY_AFTER:
                    self._fail(DEVICE_ERROR)
            yield
        finally:
            self._tap.reset()
            self._module.mend()

    def _fail(self, value: int) -> None:
        for call in HANGING:
            self._module.fail(call, value)

    def calls(self) -> int:
        return sum(self._module.count(call) for call in COUNTED)

    def held(self) -> Mapping[str, int]:
        return {"sessions": len(self._tap.sessions)}
