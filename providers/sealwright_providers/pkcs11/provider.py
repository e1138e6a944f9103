"""The `pkcs11` provider."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import pkcs11

from sealwright.errors import (
    MessageTooLargeError,
    ProviderError,
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
)
from sealwright.jose.algorithms import Algorithm, Scheme
from sealwright.jose.signatures import SignatureEncoding
from sealwright.kms.provider import KeyDescription, KeySpec, Protection, RawSignature
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
"""What C_GenerateKeyPair answers before it has begun, so that it may be called again."""


@dataclass(frozen=True, slots=True)
class _Process:
    """What belongs to one process: a fork takes neither threads nor sessions with it (v2.40 §6.6.1)."""

    pid: int
    module: Cryptoki
    token: Token
    lanes: Lanes[Lane]


class Pkcs11Provider:
    """Keys of one token. Keys are pinned by CKA_ID, and used by handle once they have been found.

    PKCS#11 has no waiting period before a deletion: `schedule_deletion` destroys at once. The promise that only a never
    published key of an intent of this very store is deleted unasked makes that safe for tokens in flight, and a key
    without Sealwright's label is never destroyed at all. What it cannot do is to wait for an operator who has erred: whoever
    configures `destroy_after` for a token keeps a backup of it.
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
        """Load the module. It is not initialised yet, so that a process may still fork.

        Raises:
            ConfigurationError: It cannot be loaded.
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
        """See `KeyProvider.sign`. EdDSA and HMAC take the message, the others its digest where the token has a mechanism for it."""
        name = self._name(uri)
        if name.secret is not (algorithm.scheme is Scheme.HMAC):
            raise ProviderUnsupportedError("the key URI names another kind of key than the algorithm needs")
        process = self._here()

        def work(lane: Lane, deadline: float) -> bytes:
            def attempt(session: pkcs11.Session) -> bytes:
                key, fitting = _cached_key(process.token, lane, session, name, deadline)
                if algorithm.name not in fitting:
                    raise ProviderUnsupportedError("the key of the token is of another kind than the algorithm needs")
                calls = sign_calls(algorithm, process.token.mechanisms)
                try:
                    return _signature(key, calls, message)
                except pkcs11.PKCS11Error as e:
                    lane.keys.clear()
                    # Logged out, NSS softokn says that the key is of the wrong type. It says so of one without CKA_SIGN, too.
                    process.token.require_login(session)
                    if isinstance(e, pkcs11.KeyTypeInconsistent) and not objects.is_enabled(key):
                        raise ProviderKeyDisabledError("the key of the token may not sign (CKA_SIGN)") from None
                    raise

            return process.token.run(lane, deadline, attempt)

        value = await process.lanes.run(work, timeout)
        ecdsa = algorithm.scheme is Scheme.ECDSA
        return RawSignature(
            value=value,
            encoding=SignatureEncoding.CONCATENATED if ecdsa else SignatureEncoding.OPAQUE,
            key_uri=self._uris.format(name),
        )

    async def check(self, *, timeout: float) -> None:
        """See `KeyProvider.check`: the token is there, and we are logged in."""
        process = self._here()

        def attempt(session: pkcs11.Session) -> None:
            process.token.require_login(session)
            process.token.require_presence()

        await process.lanes.run(lambda lane, deadline: process.token.run(lane, deadline, attempt), timeout)

    async def create(self, spec: KeySpec, *, timeout: float) -> KeyDescription:
        """See `KeyCreator.create`. The label goes into the very call that generates the key."""

        def work(session: pkcs11.Session, token: Token) -> KeyDescription:
            if not sign_calls(spec.algorithm, token.mechanisms):
                raise ProviderUnsupportedError("the token does not sign with that algorithm")
            if spec.protection not in {None, _protection(token)}:
                raise ProviderUnsupportedError("the token does not keep keys where the configuration wants them")
            try:
                name = objects.generate(session, spec)
            except pkcs11.PKCS11Error as e:
                if name_of(e) in _BEFORE_ANYTHING:
                    raise
                raise to_provider_error(e) from e
            return self._description(session, token, name)

        return await self._managed(work, timeout)

    async def find(self, tags: Mapping[str, str], *, timeout: float) -> Sequence[str]:
        """See `KeyFinder.find`."""
        names = await self._managed(lambda session, _token: objects.find_names(session, tags), timeout)
        return [self._uris.format(name) for name in names]

    async def disable(self, uri: str, *, timeout: float) -> None:
        """See `KeyDisabler.disable`: CKA_SIGN is set to false (v2.40 §4.9: where the token lets it), and read again.

        Raises:
            ProviderUnsupportedError: The token does not let it be changed.
        """
        name = self._uris.parse(uri)
        await self._managed(lambda session, _token: objects.forbid_signing(session, name), timeout)

    async def schedule_deletion(self, uri: str, *, timeout: float) -> None:
        """See `KeyDeleter.schedule_deletion`. It destroys at once.

        Raises:
            ProviderUnsupportedError: Sealwright has not made the key.
        """
        name = self._uris.parse(uri)
        await self._managed(lambda session, _token: objects.destroy(session, name), timeout)

    async def aclose(self) -> None:
        """See `KeyProvider.aclose`. A call that hangs is left behind; then the module stays initialised until the process ends."""
        process = self._process
        if self._closed or process.pid != os.getpid():
            self._closed = True
            return
        self._closed = True
        if await process.lanes.aclose(_CLOSE_SECONDS):
            with suppress(ProviderError):
                await in_thread(lambda: process.module.release(time.monotonic() + _CLOSE_SECONDS), _CLOSE_SECONDS)

    def _here(self) -> _Process:
        """Return what belongs to this process; after a fork all of it is new."""
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
        """Do something with the token's objects, one call at a time."""
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
        )


def _protection(token: Token) -> Protection:
    return Protection.HSM if token.hardware else Protection.SOFTWARE


def _believed(token: Token, session: pkcs11.Session, work: Callable[[], T]) -> T:
    """Do something that looks for objects, and believe that there is no such key only of a token that is there."""
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
            # Not kept: an operator may enable it again.
            raise ProviderKeyDisabledError("the key of the token may not sign (CKA_SIGN)")
        if len(lane.keys) >= _MAX_CACHED_KEYS:
            lane.keys.clear()
        lane.keys[name] = cached = (key, objects.fitting(key))
    return cached


def _signature(key: Any, calls: Sequence[SignCall], message: bytes) -> bytes:
    """Sign by the first mechanism that the token takes, since some list one that they then refuse.

    Raises:
        PKCS11Error: As the module says.
    """
    refused: pkcs11.PKCS11Error | None = None
    for call in calls:
        try:
            value: bytes = key.sign(call.data(message), mechanism=call.mechanism, mechanism_param=call.parameter)
        except (pkcs11.MechanismInvalid, pkcs11.MechanismParamInvalid) as e:
            refused = e
        except pkcs11.DataLenRange:
            if call.whole:
                raise MessageTooLargeError("the token signs no messages of that size with this algorithm") from None
            raise
        else:
            return value
    if refused is not None:
        raise refused
    raise ProviderUnsupportedError("the token does not sign with that algorithm")
