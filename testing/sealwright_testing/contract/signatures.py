"""The contract on signatures, for every algorithm."""

from __future__ import annotations

from typing import Final

import pytest

from sealwright.errors import (
    MessageTooLargeError,
    ProviderError,
    ProviderUnsupportedError,
    SignatureRejectedError,
)
from sealwright.jose.algorithms import ALGORITHMS, Algorithm
from sealwright.provider import KeyProvider

from .case import Case, ContractBrokenError, require
from .harness import PATIENCE, Fault, Outcome
from .judging import accept, another_library_accepts, signing_input

_ALL: Final = [pytest.param(a, id=a.name) for a in ALGORITHMS.values()]
_PUBLIC: Final = [pytest.param(a, id=a.name) for a in ALGORITHMS.values() if not a.symmetric]
_SIZES: Final = (4095, 4096, 4097, 8192)
"""Sizes around the largest message that AWS KMS accepts."""


class SignatureContract:
    """Checks that signatures are right, and that wrong ones are noticed."""

    @pytest.mark.parametrize("algorithm", _ALL)
    async def test_sign(self, case: Case, algorithm: Algorithm) -> None:
        """The core and an independent library accept the signature, and only for this message."""
        async with case.of(Outcome.SIGN, algorithm) as provider:
            key = await provider.describe(await case.key(provider, algorithm), timeout=PATIENCE)
            messages = [signing_input(algorithm, claim) for claim in ("one", "two")]
            raw = [await provider.sign(key.uri, algorithm, message, timeout=PATIENCE) for message in messages]
            one, two = (accept(key, algorithm, m, r) for m, r in zip(messages, raw, strict=True))
            require(one != two, "two messages have the same signature")
            if key.public_key is None:
                again = await provider.sign(key.uri, algorithm, messages[0], timeout=PATIENCE)
                require(again.value == one, "one message has two authentication codes")
                return
            require(
                another_library_accepts(key.public_key, algorithm, messages[0], one),
                "another library refuses the signature",
            )
            require(
                not another_library_accepts(key.public_key, algorithm, messages[1], one),
                "another library accepts the signature for another message",
            )

    @pytest.mark.parametrize("algorithm", _ALL)
    async def test_long_message(self, case: Case, algorithm: Algorithm) -> None:
        """Any length is signed if a digest can be sent. Otherwise, a message that is too long is reported as too large."""
        async with case.of(Outcome.LONG_MESSAGE, algorithm) as provider:
            key = await provider.describe(await case.key(provider, algorithm), timeout=PATIENCE)
            for size in _SIZES:
                message = signing_input(algorithm).ljust(size, b"e")
                try:
                    raw = await provider.sign(key.uri, algorithm, message, timeout=PATIENCE)
                except MessageTooLargeError as error:
                    case.inspect(error)
                    require(
                        not algorithm.prehashed, f"a message of {size} bytes is refused, though a digest could be sent"
                    )
                else:
                    accept(key, algorithm, message, raw)

    @pytest.mark.parametrize("algorithm", _ALL)
    async def test_wrong_algorithm(self, case: Case, algorithm: Algorithm) -> None:
        """A key does not sign with another key's algorithm: the provider refuses, or the core notices."""
        async with case.of(Outcome.WRONG_ALGORITHM, algorithm) as provider:
            key = await provider.describe(await case.key(provider, algorithm), timeout=PATIENCE)
            require(key.algorithms <= ALGORITHMS.keys(), "the key's algorithms include unknown ones")
            for other in ALGORITHMS.values():
                # A secret that is long enough for HS512 can be used for HS256, and may sign even if this is not declared.
                if other.name in key.algorithms or (algorithm.symmetric and other.symmetric):
                    continue
                message = signing_input(other)
                try:
                    raw = await provider.sign(key.uri, other, message, timeout=PATIENCE)
                except ProviderUnsupportedError as error:
                    case.inspect(error)
                    continue
                except ProviderError as error:
                    raise ContractBrokenError(f"{other.name} is refused with {type(error).__name__}") from error
                try:
                    accept(key, other, message, raw)
                except SignatureRejectedError:
                    continue
                raise ContractBrokenError(f"a key for {algorithm.name} signs with {other.name}")

    @pytest.mark.parametrize("algorithm", _PUBLIC)
    async def test_corrupted_signature(self, case: Case, algorithm: Algorithm) -> None:
        """A corrupted signature is refused."""
        async with case.of(Outcome.CORRUPTED_SIGNATURE, algorithm) as provider:
            await _no_token(case, provider, algorithm, Fault.CORRUPTED_SIGNATURE)

    @pytest.mark.parametrize("algorithm", _ALL)
    async def test_truncated_signature(self, case: Case, algorithm: Algorithm) -> None:
        """A truncated signature or authentication code is refused."""
        async with case.of(Outcome.TRUNCATED_SIGNATURE, algorithm) as provider:
            await _no_token(case, provider, algorithm, Fault.TRUNCATED_SIGNATURE)

    @pytest.mark.parametrize("algorithm", _PUBLIC)
    async def test_other_key(self, case: Case, algorithm: Algorithm) -> None:
        """A signature by another key is refused."""
        async with case.of(Outcome.OTHER_KEY, algorithm) as provider:
            await _no_token(case, provider, algorithm, Fault.OTHER_KEY)

    @pytest.mark.parametrize("algorithm", _ALL)
    async def test_other_version(self, case: Case, algorithm: Algorithm) -> None:
        """The provider reports which key signed, so that the core notices another one, or refuses the answer itself."""
        async with case.of(Outcome.OTHER_VERSION, algorithm) as provider:
            key = await provider.describe(await case.key(provider, algorithm), timeout=PATIENCE)
            with case.harness.arm(Fault.OTHER_VERSION):
                try:
                    raw = await provider.sign(key.uri, algorithm, signing_input(algorithm), timeout=PATIENCE)
                except ProviderError as error:
                    case.inspect(error)
                else:
                    require(raw.key_uri != key.uri, "the signature of another version has the URI of the key")
                try:
                    seen = await provider.describe(key.uri, timeout=PATIENCE)
                except ProviderError as error:
                    case.inspect(error)
                else:
                    require(seen == key or seen.uri != key.uri, "another version is described with the URI of the key")


async def _no_token(case: Case, provider: KeyProvider, algorithm: Algorithm, fault: Fault) -> None:
    key = await provider.describe(await case.key(provider, algorithm), timeout=PATIENCE)
    message = signing_input(algorithm)
    with case.harness.arm(fault):
        try:
            accept(key, algorithm, message, await provider.sign(key.uri, algorithm, message, timeout=PATIENCE))
        except ProviderError as error:
            case.inspect(error)
        else:
            raise ContractBrokenError("a wrong signature is accepted")
    accept(key, algorithm, message, await provider.sign(key.uri, algorithm, message, timeout=PATIENCE))
