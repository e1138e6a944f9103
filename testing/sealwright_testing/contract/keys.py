"""The contract on keys: their description, their states and their management."""

from __future__ import annotations

import uuid
from typing import Final

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sealwright.errors import (
    ProviderError,
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderUnsupportedError,
)
from sealwright.jose import jwk
from sealwright.jose.algorithms import ALGORITHMS, Algorithm
from sealwright.kms.guard import FAILURES_TO_OPEN
from sealwright.provider import (
    KeyCreator,
    KeyDeleter,
    KeyDescription,
    KeyDisabler,
    KeyFinder,
    KeyProvider,
    KeySpec,
    Protection,
)

from .case import Case, capability, require
from .harness import DEPLOYMENT, INTENT, PATIENCE, KeyState, Outcome
from .judging import signing_input

_ALL: Final = [pytest.param(a, id=a.name) for a in ALGORITHMS.values()]


class KeyContract:
    """Checks how keys are described, created, found, disabled and deleted, and how missing or unusable keys are reported."""

    @pytest.mark.parametrize("algorithm", _ALL)
    async def test_describe(self, case: Case, algorithm: Algorithm) -> None:
        """The public key, the pinned URI and the protection are right, and the same after a restart."""
        async with case.of(Outcome.DESCRIBE, algorithm) as provider:
            uri = await case.key(provider, algorithm)
            key = await provider.describe(uri, timeout=PATIENCE)
            _check_description(case, key, algorithm)
            require(key.uri == uri, "the URI of a new key is not pinned: describe returns another one")
            await provider.aclose()
            async with case.opened() as restarted:
                again = await restarted.describe(uri, timeout=PATIENCE)
            kids = {jwk.key_id(k.public_key, k.uri) for k in (key, again)}
            require(len(kids) == 1, "the kid changed after a restart")
            require(again == key, "the description changed after a restart")

    async def test_unknown_key(self, case: Case) -> None:
        """A key that does not exist is reported as missing. This neither causes a retry nor opens the breaker."""
        algorithm = case.some_algorithm()
        async with case.of(Outcome.UNKNOWN_KEY) as provider:
            await _unusable(case, provider, case.harness.unknown(algorithm), algorithm, ProviderKeyMissingError)

    @pytest.mark.parametrize(
        ("outcome", "state"),
        [
            pytest.param(Outcome.DISABLED, KeyState.DISABLED, id="disabled"),
            pytest.param(Outcome.PENDING_DELETION, KeyState.PENDING_DELETION, id="pending_deletion"),
            pytest.param(Outcome.NOT_YET_ENABLED, KeyState.NOT_YET_ENABLED, id="not_yet_enabled"),
        ],
    )
    async def test_state(self, case: Case, outcome: Outcome, state: KeyState) -> None:
        """A key that may not sign is reported as disabled, also if it signed a moment before. Other keys still sign."""
        algorithm = case.some_algorithm()
        async with case.of(outcome) as provider:
            uri = await case.new_key(provider, algorithm)
            await case.signs(provider, uri, algorithm)
            await case.harness.put(provider, uri, state)
            await _unusable(case, provider, uri, algorithm, ProviderKeyDisabledError)
            await case.warm(provider)

    async def test_create(self, case: Case) -> None:
        """The service is told of a new key, which can be described and used at once."""
        algorithm = case.some_algorithm()
        async with case.of(Outcome.CREATE) as provider:
            creator = capability(provider, KeyCreator)  # type: ignore[type-abstract]
            announced: list[str] = []

            async def created(uri: str) -> None:
                announced.append(uri)

            spec = KeySpec(algorithm=algorithm, tags=_tags(), created=created)
            key = await creator.create(spec, timeout=PATIENCE)
            require(announced == [key.uri], "create does not call spec.created once, with the URI of the new key")
            _check_description(case, key, algorithm)
            await case.signs(provider, key.uri, algorithm)

    @pytest.mark.parametrize("protection", list(Protection))
    async def test_f22_protection(self, case: Case, protection: Protection) -> None:
        """A new key is kept where the request says. What the backend cannot give is refused before anything is created."""
        algorithm = case.some_algorithm()
        async with case.of(Outcome.PROTECTION) as provider:
            creator = capability(provider, KeyCreator)  # type: ignore[type-abstract]
            finder = capability(provider, KeyFinder)  # type: ignore[type-abstract]
            tags = _tags()
            spec = KeySpec(algorithm=algorithm, protection=protection, tags=tags)
            try:
                key = await creator.create(spec, timeout=PATIENCE)
            except ProviderUnsupportedError as error:
                case.inspect(error)
                require(protection is not case.harness.protection, "the harness's own protection is refused")
                require(
                    not await finder.find(tags, timeout=PATIENCE), "a key was created though the request was refused"
                )
            else:
                require(key.protection is protection, "the new key is not kept where the request says")

    async def test_find(self, case: Case) -> None:
        """A key is found by its tags, also by another provider on the backend, and not by other tags."""
        algorithm = case.some_algorithm()
        async with case.of(Outcome.FIND) as provider:
            creator = capability(provider, KeyCreator)  # type: ignore[type-abstract]
            tags = _tags()
            made = {
                (await creator.create(KeySpec(algorithm=algorithm, tags=tags | more), timeout=PATIENCE)).uri
                for more in ({}, {INTENT: str(uuid.uuid4())})
            }
            async with case.opened() as another:
                finder = capability(another, KeyFinder)  # type: ignore[type-abstract]
                found = await finder.find(tags, timeout=PATIENCE)
                require(
                    len(found) == 1 and set(found) < made, "find does not return exactly the one key with these tags"
                )
                deployment = {DEPLOYMENT: tags[DEPLOYMENT]}
                require(
                    sorted(await finder.find(deployment, timeout=PATIENCE)) == sorted(made),
                    "find does not return both keys of the deployment",
                )
                require(not await finder.find(_tags(), timeout=PATIENCE), "find returns keys for tags that no key has")
                await case.signs(another, found[0], algorithm)

    async def test_disable(self, case: Case) -> None:
        """A key that the provider disables no longer signs, for any replica."""
        algorithm = case.some_algorithm()
        async with case.of(Outcome.DISABLE) as provider, case.opened() as replica:
            uri = await case.new_key(provider, algorithm)
            await case.signs(replica, uri, algorithm)
            await capability(provider, KeyDisabler).disable(uri, timeout=PATIENCE)  # type: ignore[type-abstract]
            for one in (provider, replica):
                await _unusable(case, one, uri, algorithm, ProviderKeyDisabledError)

    async def test_delete(self, case: Case) -> None:
        """A key whose deletion is scheduled neither signs nor is found. Scheduling it twice succeeds."""
        algorithm = case.some_algorithm()
        async with case.of(Outcome.DELETE) as provider:
            creator = capability(provider, KeyCreator)  # type: ignore[type-abstract]
            deleter = capability(provider, KeyDeleter)  # type: ignore[type-abstract]
            tags = _tags()
            uri = (await creator.create(KeySpec(algorithm=algorithm, tags=tags), timeout=PATIENCE)).uri
            await case.signs(provider, uri, algorithm)
            for _ in range(2):
                await deleter.schedule_deletion(uri, timeout=PATIENCE)
            await _unusable(case, provider, uri, algorithm, ProviderKeyDisabledError, ProviderKeyMissingError)
            finder = capability(provider, KeyFinder)  # type: ignore[type-abstract]
            require(not await finder.find(tags, timeout=PATIENCE), "find returns a key whose deletion is scheduled")


def _tags() -> dict[str, str]:
    return {DEPLOYMENT: str(uuid.uuid4()), INTENT: str(uuid.uuid4())}


def _check_description(case: Case, key: KeyDescription, algorithm: Algorithm) -> None:
    require(algorithm.name in key.algorithms, "the algorithm is missing in the key's algorithms")
    require(key.protection is case.harness.protection, f"protection is {key.protection}, not {case.harness.protection}")
    require(
        not any(text in repr(key) for text in (key.uri, repr(key.public_key))), "repr shows the key's URI or public key"
    )
    if algorithm.symmetric or key.public_key is None:
        require(algorithm.symmetric, "a key pair has no public key")
        require(key.public_key is None, "a secret key has a public key")
        require(jwk.key_id(None, key.uri), "the secret key has no kid")
        return
    public = jwk.load_public_key(key.public_key)
    require(algorithm.fits(public), "the public key does not fit the algorithm")
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    require(der == key.public_key, "the public key is not in DER")
    require(
        all(ALGORITHMS[name].fits(public) for name in key.algorithms),
        "the key's algorithms include some that do not fit it",
    )


async def _unusable(
    case: Case, provider: KeyProvider, uri: str, algorithm: Algorithm, *errors: type[ProviderError]
) -> None:
    """Check that a key cannot be used, and that the breaker does not count this against the backend."""
    message = signing_input(algorithm)
    guarded = case.guarded(provider)
    await case.refused(provider.describe(uri, timeout=PATIENCE), *errors)
    await case.refused(provider.sign(uri, algorithm, message, timeout=PATIENCE), *errors)
    for _ in range(FAILURES_TO_OPEN):
        await case.refused(guarded.sign(uri, algorithm, message, timeout=PATIENCE), *errors)
    require(not guarded.breaker.open, "the breaker opens because of one key")
