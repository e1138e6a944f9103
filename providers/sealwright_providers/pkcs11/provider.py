"""The `pkcs11` provider."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import pkcs11

from sealwright.provider import (
    Algorithm,
    KeyDescription,
    KeySpec,
    MessageTooLargeError,
    Protection,
    ProviderError,
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
    RawSignature,
    SignatureEncoding,
)
from sealwright_providers.pkcs11 import objects
from sealwright_providers.pkcs11.cryptoki import Cryptoki
from sealwright_providers.pkcs11.errors import name_of, to_provider_error
from sealwright_providers.pkcs11.gate import held
from sealwright_providers.pkcs11.lanes import Lanes, in_thread
from sealwright_providers.pkcs11.mechanisms import SignCall, sign_calls
from sealwright_providers.pkcs11.settings import Pkcs11Settings
from sealwright_providers.pkcs11.token import Lane, Token
from sealwright_providers.pkcs11.uri import KeyName, KeyUris

T = TypeVar("T")

_MAX_CACHED_KEYS: Final = 1000
_CLOSE_SECONDS: Final = 2.0
_BEFORE_ANYTHING: Final = frozenset({"SessionHandleInvalid", "UserNotLoggedIn", "0x190"})
"""What C_GenerateKeyPair returns before it has begun to generate, so that it may be called again."""


@dataclass(frozen=True, slots=True)
class _Process:
    """What belongs to one process. A forked child has neither its threads nor its sessions (v2.40 §6.6.1)."""

    pid: int
    module: Cryptoki
    token: Token
    lanes: Lanes[Lane]


class Pkcs11Provider:
    """Keys of one token. Keys are pinned by CKA_ID, and used by handle once found.

    PKCS#11 has no waiting period before a deletion: `schedule_deletion` destroys at once. This is safe for valid tokens, since
    Sealwright deletes a key unasked only if it was never published and its intent is in this store. It never destroys a key without
    its label. But an operator's mistake cannot be undone: keep a backup of a token for which `destroy_after` is set.
    """

    def __init__(self, settings: Pkcs11Settings, pin: bytes, module: Cryptoki) -> None:
        self._settings = settings
        self._uris = KeyUris(settings)
        self._pin = pin
        self._names: dict[str, KeyName] = {}
        self._closed = False
        self._process = self._started(module)

    @classmethod
    async def open(cls, settings: Pkcs11Settings, pin: bytes) -> Pkcs11Provider:
        """Load the module, without initialising it, so that the process may still fork.

        Raises:
            ConfigurationError: The module cannot be loaded.
            ProviderError: Loading it hangs.
        """
        seconds = settings.manage_timeout.total_seconds()
        module = await in_thread(lambda: Cryptoki.acquire(settings.module, settings.initialize_arguments), seconds)
        return cls(settings, pin, module)

    async def describe(self, uri: str, *, timeout: float) -> KeyDescription:
        """See `KeyProvider.describe`."""
        name = self._uris.parse(uri)
        return await self._managed(lambda session, token: self._description(session, token, name), timeout)

    async def sign(self, uri: str, algorithm: Algorithm, message: bytes, *, timeout: float) -> RawSignature:
        """See `KeyProvider.sign`. Sends the digest if the algorithm allows it and the token has a mechanism for it."""
        name = self._name(uri)
        if name.secret is not algorithm.symmetric:
            raise ProviderUnsupportedError(f"the type in the key URI does not fit {algorithm.name}")
        process = self._here()

        def work(lane: Lane, deadline: float) -> bytes:
            def attempt(session: pkcs11.Session) -> bytes:
                key, fitting = _cached_key(process.token, lane, session, name, deadline)
                if algorithm.name not in fitting:
                    raise ProviderUnsupportedError(
                        f"the key in the token has a type or curve that {algorithm.name} does not use"
                    )
                calls = sign_calls(algorithm, process.token.mechanisms)
                try:
                    return _signature(key, calls, message)
                except pkcs11.PKCS11Error as e:
                    lane.keys.clear()
                    # NSS softokn reports a wrong key type when it is logged out, and for a key without CKA_SIGN.
                    process.token.require_login(session)
                    if isinstance(e, pkcs11.KeyTypeInconsistent) and not objects.is_enabled(key):
                        raise ProviderKeyDisabledError("CKA_SIGN of the key in the token is false") from None
                    raise

            return process.token.run(lane, deadline, attempt)

        value = await process.lanes.run(work, timeout)
        return RawSignature(
            value=value,
            encoding=SignatureEncoding.CONCATENATED if algorithm.two_integers else SignatureEncoding.OPAQUE,
            key_uri=self._uris.format(name),
        )

    async def check(self, *, timeout: float) -> None:
        """See `KeyProvider.check`. Checks that the token is present and that we are logged in."""
        process = self._here()

        def attempt(session: pkcs11.Session) -> None:
            process.token.require_login(session)
            process.token.require_presence()

        await process.lanes.run(lambda lane, deadline: process.token.run(lane, deadline, attempt), timeout)

    async def create(self, spec: KeySpec, *, timeout: float) -> KeyDescription:
        """See `KeyCreator.create`. The call that generates the key sets the label."""

        def work(session: pkcs11.Session, token: Token) -> KeyName:
            if not sign_calls(spec.algorithm, token.mechanisms):
                raise ProviderUnsupportedError(f"the token does not sign with {spec.algorithm.name}")
            if spec.protection not in {None, _protection(token)}:
                raise ProviderUnsupportedError(
                    f"the protection of keys in the token is {_protection(token)}; the request asks for {spec.protection}"
                )
            try:
                return objects.generate(session, spec)
            except pkcs11.PKCS11Error as e:
                if name_of(e) in _BEFORE_ANYTHING:
                    raise
                raise to_provider_error(e) from e

        end = time.monotonic() + timeout
        name = await self._managed(work, timeout)
        await spec.created(self._uris.format(name))
        return await self._managed(
            lambda session, token: self._description(session, token, name), end - time.monotonic()
        )

    async def find(self, tags: Mapping[str, str], *, timeout: float) -> Sequence[str]:
        """See `KeyFinder.find`."""
        names = await self._managed(lambda session, _token: objects.find_names(session, tags), timeout)
        return [self._uris.format(name) for name in names]

    async def disable(self, uri: str, *, timeout: float) -> None:
        """See `KeyDisabler.disable`. Sets CKA_SIGN to false (v2.40 §4.9: if the token allows it), and reads it again.

        Raises:
            ProviderUnsupportedError: The token does not allow the change.
        """
        name = self._uris.parse(uri)
        await self._managed(lambda session, _token: objects.forbid_signing(session, name), timeout)

    async def schedule_deletion(self, uri: str, *, timeout: float) -> None:
        """See `KeyDeleter.schedule_deletion`. Destroys the key at once.

        Raises:
            ProviderUnsupportedError: Sealwright did not create the key.
        """
        name = self._uris.parse(uri)
        await self._managed(lambda session, _token: objects.destroy(session, name), timeout)

    async def aclose(self) -> None:
        """See `KeyProvider.aclose`. Leaves a call that hangs behind. Then the module stays initialised until the process ends."""
        process = self._process
        if self._closed or process.pid != os.getpid():
            self._closed = True
            return
        self._closed = True
        if await process.lanes.aclose(_CLOSE_SECONDS):
            with suppress(ProviderError):
                await in_thread(lambda: process.module.release(time.monotonic() + _CLOSE_SECONDS), _CLOSE_SECONDS)

    def _here(self) -> _Process:
        """Return what belongs to this process. After a fork all of it is new."""
        if self._closed:
            raise ProviderUnavailableError("the provider is closed")
        if self._process.pid != os.getpid():
            module = Cryptoki.acquire(self._settings.module, self._settings.initialize_arguments)
            self._process = self._started(module)
        return self._process

    def _started(self, module: Cryptoki) -> _Process:
        token = Token(self._settings, self._pin, module)
        return _Process(os.getpid(), module, token, Lanes(self._settings.sessions, Lane))

    def _name(self, uri: str) -> KeyName:
        name = self._names.get(uri)
        if name is None:
            name = self._uris.parse(uri)
            if len(self._names) >= _MAX_CACHED_KEYS:
                self._names.clear()
            self._names[uri] = name
        return name

    async def _managed(self, work: Callable[[pkcs11.Session, Token], T], timeout: float) -> T:
        """Run a function on the token's objects. Only one runs at a time."""
        process = self._here()
        token = process.token

        def in_lane(lane: Lane, deadline: float) -> T:
            def attempt(session: pkcs11.Session) -> T:
                with held(token.objects, deadline):
                    return _believed(token, session, lambda: work(session, token))

            return token.run(lane, deadline, attempt)

        return await process.lanes.run(in_lane, timeout)

    def _description(self, session: pkcs11.Session, token: Token, name: KeyName) -> KeyDescription:
        public_key, algorithms = objects.read_public(session, name, token.mechanisms)
        return KeyDescription(
            uri=self._uris.format(name),
            public_key=public_key,
            algorithms=algorithms,
            protection=_protection(token),
            imported=not objects.is_local(session, name),
        )


def _protection(token: Token) -> Protection:
    return Protection.HSM if token.hardware else Protection.SOFTWARE


def _believed(token: Token, session: pkcs11.Session, work: Callable[[], T]) -> T:
    """Run a function that searches for objects. Report a missing key only if the token is present and logged in."""
    token.require_login(session)
    try:
        return work()
    except ProviderKeyMissingError:
        token.require_login(session)
        token.require_presence()
        raise


def _cached_key(
    token: Token, lane: Lane, session: pkcs11.Session, name: KeyName, deadline: float
) -> tuple[Any, frozenset[str]]:
    """Return a key, and the algorithms that fit it."""
    cached = lane.keys.get(name)
    if cached is None:
        with held(token.objects, deadline):
            key = _believed(token, session, lambda: objects.find_key(session, name))
        if not objects.may_sign(key):
            # Do not cache it: an operator may enable it again.
            raise ProviderKeyDisabledError("CKA_SIGN of the key in the token is false")
        if len(lane.keys) >= _MAX_CACHED_KEYS:
            lane.keys.clear()
        lane.keys[name] = cached = (key, objects.fitting(key))
    return cached


def _signature(key: Any, calls: Sequence[SignCall], message: bytes) -> bytes:
    """Sign with the first mechanism that the token accepts, since some tokens list one that they then refuse.

    Raises:
        PKCS11Error: The module refused or failed.
    """
    refused: pkcs11.PKCS11Error | None = None
    for call in calls:
        try:
            value: bytes = key.sign(call.data(message), mechanism=call.mechanism, mechanism_param=call.parameter)
        except (pkcs11.MechanismInvalid, pkcs11.MechanismParamInvalid) as e:
            refused = e
        except pkcs11.DataLenRange:
            if call.whole:
                raise MessageTooLargeError(
                    "the token does not sign messages of this size with this algorithm"
                ) from None
            raise
        else:
            return value
    if refused is not None:
        raise refused
    raise ProviderUnsupportedError("the token has no mechanism for this algorithm")
