"""Tests of the contract itself: it finds what breaks it, and wrong declarations."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from contract.example import BackendError, ExampleHarness, ExampleProvider
from sealwright.errors import ProviderError, ProviderThrottledError, ProviderUnavailableError, SignatureRejectedError
from sealwright.jose.algorithms import ALGORITHMS, Algorithm
from sealwright.provider import KeyDescription, KeyProvider, KeySpec, Protection, ProviderUnsupportedError, RawSignature
from sealwright_testing.contract import CannotError, Fault, KeyState, Outcome, ProviderContract
from sealwright_testing.contract.case import Case, ContractBrokenError, ProviderFaultyError

ES256 = ALGORITHMS["ES256"]
CONTRACT = ProviderContract()
Test = Callable[[Case], Awaitable[None]]


class Around(ExampleHarness):
    """The example with another provider."""

    def __init__(self, provider: type[ExampleProvider] = ExampleProvider) -> None:
        super().__init__()
        self.provider = provider

    async def open(self) -> KeyProvider:
        return self.provider(self.backend)


@pytest.fixture
def run(caplog: pytest.LogCaptureFixture) -> Callable[[ExampleHarness, Test], Awaitable[dict[str, Any]]]:
    """Run a test of the contract, and return what it records."""

    async def run(harness: ExampleHarness, test: Test) -> dict[str, Any]:
        recorded: dict[str, Any] = {}
        await test(Case(harness, recorded.__setitem__, caplog))
        return recorded

    return run


Run = Callable[[ExampleHarness, Test], Awaitable[dict[str, Any]]]


def sign(case: Case) -> Awaitable[None]:
    return CONTRACT.test_sign(case, ES256)


async def test_a_wrong_declaration_of_an_algorithm_is_a_failure(run: Run) -> None:
    harness = Around()
    harness.impossible = {**harness.impossible, (Outcome.SIGN, "ES256"): "a lie"}
    with pytest.raises(ProviderFaultyError, match="declared impossible"):
        await run(harness, sign)


@pytest.mark.parametrize("outcome", [Outcome.UNKNOWN_KEY, Outcome.DENIED, Outcome.CHECK, Outcome.CANCEL, Outcome.CLOSE])
async def test_a_wrong_declaration_of_any_outcome_is_a_failure(run: Run, outcome: Outcome) -> None:
    harness = Around()
    harness.impossible = {**harness.impossible, outcome: "a lie"}
    tests: dict[Outcome, Test] = {
        Outcome.UNKNOWN_KEY: CONTRACT.test_unknown_key,
        Outcome.DENIED: CONTRACT.test_denied,
        Outcome.CHECK: CONTRACT.test_check,
        Outcome.CANCEL: CONTRACT.test_cancel,
        Outcome.CLOSE: CONTRACT.test_close,
    }
    with pytest.raises(ProviderFaultyError, match="declared impossible"):
        await run(harness, tests[outcome])


async def test_what_was_declared_and_does_not_work_is_as_declared(run: Run) -> None:
    recorded = await run(ExampleHarness(), lambda case: CONTRACT.test_sign(case, ALGORITHMS["RS256"]))
    assert recorded == {
        "contract.case": ("example", "sign", "RS256"),
        "contract.declared": "the example has only keys on P-256",
    }
    assert (await run(ExampleHarness(), CONTRACT.test_create))["contract.declared"] == "keys are managed by their owner"


class Garbled(ExampleProvider):
    """Signs something else."""

    async def sign(self, uri: str, algorithm: Algorithm, message: bytes, *, timeout: float) -> RawSignature:
        return await super().sign(uri, algorithm, message + b"x", timeout=timeout)


async def test_a_signature_that_the_core_refuses_can_be_declared(run: Run) -> None:
    harness = Around(Garbled)
    with pytest.raises(SignatureRejectedError):
        await run(harness, sign)
    harness.impossible = {**harness.impossible, (Outcome.SIGN, "ES256"): "the backend garbles messages"}
    assert (await run(harness, sign))["contract.declared"] == "the backend garbles messages"


async def test_what_cannot_be_done_and_was_not_declared_is_a_failure(run: Run) -> None:
    harness = Around()
    harness.impossible = {}
    with pytest.raises(CannotError):
        await run(harness, lambda case: CONTRACT.test_sign(case, ALGORITHMS["RS256"]))
    with pytest.raises(CannotError):
        await run(harness, CONTRACT.test_find)


@pytest.mark.parametrize(
    "declared",
    [
        {"sing": "no outcome"},
        {Outcome.SIGN: " "},
        {(Outcome.CLOSE, "ES256"): "closing has no algorithm"},
        {(Outcome.SIGN, "ES257"): "no algorithm"},
    ],
)
async def test_declarations_name_something_and_say_why(declared: dict[Any, str]) -> None:
    harness = Around()
    harness.impossible = declared
    with pytest.raises(ContractBrokenError):
        await CONTRACT.test_declarations(harness)


class Leaky(ExampleProvider):
    async def describe(self, uri: str, *, timeout: float) -> KeyDescription:
        try:
            return await super().describe(uri, timeout=timeout)
        except ProviderError as e:
            raise type(e)(f"tenant-4711 says no to {uri}") from None


class Raw(ExampleProvider):
    async def describe(self, uri: str, *, timeout: float) -> KeyDescription:  # noqa: ARG002 - it raises at once
        raise BackendError("raw")


class Talkative(ExampleProvider):
    async def sign(self, uri: str, algorithm: Algorithm, message: bytes, *, timeout: float) -> RawSignature:
        logging.getLogger("example").info("signing with %s", uri)
        return await super().sign(uri, algorithm, message, timeout=timeout)


async def test_disclosures_in_errors_and_logs_are_found(run: Run) -> None:
    with pytest.raises(ProviderFaultyError, match="discloses"):
        await run(Around(Leaky), CONTRACT.test_unknown_key)
    with pytest.raises(ProviderFaultyError, match="the log"):
        await run(Around(Talkative), sign)


async def test_no_declaration_excuses_a_foreign_exception(run: Run) -> None:
    harness = Around(Raw)
    harness.impossible = {**harness.impossible, Outcome.FOREIGN_URI: "a lie"}
    with pytest.raises(ProviderFaultyError, match="not a ProviderError"):
        await run(harness, CONTRACT.test_foreign_uri)


class Trusting(ExampleProvider):
    """Returns every signature with the URI of the requested key."""

    async def sign(self, uri: str, algorithm: Algorithm, message: bytes, *, timeout: float) -> RawSignature:
        raw = await super().sign(uri, algorithm, message, timeout=timeout)
        return RawSignature(value=raw.value, encoding=raw.encoding, key_uri=uri)


class Insistent(ExampleProvider):
    """Retries by itself."""

    async def sign(self, uri: str, algorithm: Algorithm, message: bytes, *, timeout: float) -> RawSignature:
        try:
            return await super().sign(uri, algorithm, message, timeout=timeout)
        except ProviderThrottledError:
            return await super().sign(uri, algorithm, message, timeout=timeout)


class Blurred(ExampleProvider):
    """Raises the same error for everything."""

    async def sign(self, uri: str, algorithm: Algorithm, message: bytes, *, timeout: float) -> RawSignature:
        try:
            return await super().sign(uri, algorithm, message, timeout=timeout)
        except ProviderError:
            raise ProviderUnavailableError("no") from None


class Littering(ExampleProvider):
    """Leaves a task behind for each call."""

    async def sign(self, uri: str, algorithm: Algorithm, message: bytes, *, timeout: float) -> RawSignature:
        task = asyncio.ensure_future(super().sign(uri, algorithm, message, timeout=timeout))
        self.left = [*getattr(self, "left", []), asyncio.ensure_future(asyncio.sleep(9))]
        return await asyncio.shield(task)

    async def aclose(self) -> None:
        for task in getattr(self, "left", []):
            task.cancel()
        await super().aclose()


class Curious(ExampleProvider):
    """Calls the backend before it checks the URI."""

    def name_of(self, uri: str) -> str:
        self.backend.calls += 1
        return super().name_of(uri)


class Patient(ExampleProvider):
    """Ignores the timeout."""

    async def sign(self, uri: str, algorithm: Algorithm, message: bytes, *, timeout: float) -> RawSignature:
        return await super().sign(uri, algorithm, message, timeout=timeout + 2)


class Open(ExampleProvider):
    """Works after it is closed."""

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize(
    ("provider", "test"),
    [
        (Trusting, lambda case: CONTRACT.test_other_version(case, ES256)),
        (Insistent, lambda case: CONTRACT.test_throttled(case, Outcome.THROTTLED, Fault.THROTTLED, None)),
        (Blurred, CONTRACT.test_denied),
        (Blurred, CONTRACT.test_unknown_key),
        (Blurred, lambda case: CONTRACT.test_state(case, Outcome.DISABLED, KeyState.DISABLED)),
        (Blurred, lambda case: CONTRACT.test_wrong_algorithm(case, ES256)),
        (Littering, CONTRACT.test_cancel),
        (Curious, CONTRACT.test_foreign_uri),
        (Curious, CONTRACT.test_no_time),
        (Patient, CONTRACT.test_slow),
        (Open, CONTRACT.test_close),
    ],
)
async def test_providers_that_break_the_contract_do_not_pass(
    run: Run, monkeypatch: pytest.MonkeyPatch, provider: type[ExampleProvider], test: Test
) -> None:
    monkeypatch.setattr("sealwright_testing.contract.case._SETTLING_SECONDS", 0.3)
    await run(Around(), test)
    with pytest.raises(ContractBrokenError):
        await run(Around(provider), test)


class Careless(ExampleProvider):
    """Creates keys in software, whatever the requested protection is."""

    made: Sequence[str] = ()

    async def create(self, spec: KeySpec, *, timeout: float) -> KeyDescription:  # noqa: ARG002 - all are alike
        self.backend.keys["key-new"] = ec.generate_private_key(ec.SECP256R1())
        self.made = ["example:key-new"]
        return await self.describe("example:key-new", timeout=timeout)

    async def find(self, tags: Mapping[str, str], *, timeout: float) -> Sequence[str]:  # noqa: ARG002
        return self.made


class Silent(Careless):
    """Does not tell the service of the new key."""


async def test_f11_a_provider_that_does_not_tell_of_a_new_key_breaks_the_contract(run: Run) -> None:
    class Telling(Careless):
        async def create(self, spec: KeySpec, *, timeout: float) -> KeyDescription:
            key = await super().create(spec, timeout=timeout)
            await spec.created(key.uri)
            return key

    for provider, telling in ((Telling, True), (Silent, False)):
        harness = Around(provider)
        harness.impossible = {}
        if telling:
            await run(harness, CONTRACT.test_create)
        else:
            with pytest.raises(ContractBrokenError, match=r"spec\.created"):
                await run(harness, CONTRACT.test_create)


class Late(Careless):
    """Checks the protection only after it has created the key."""

    async def create(self, spec: KeySpec, *, timeout: float) -> KeyDescription:
        key = await super().create(spec, timeout=timeout)
        if spec.protection not in {None, key.protection}:
            raise ProviderUnsupportedError("the example keeps keys in software")
        return key


@pytest.mark.parametrize(("provider", "found"), [(Careless, "not kept where"), (Late, "was created though")])
async def test_f22_a_key_that_is_kept_elsewhere_breaks_the_contract(
    run: Run, provider: type[ExampleProvider], found: str
) -> None:
    harness = Around(provider)
    harness.impossible = {}
    await run(harness, lambda case: CONTRACT.test_f22_protection(case, Protection.SOFTWARE))
    for protection in (Protection.HSM, Protection.EXTERNAL):
        with pytest.raises(ContractBrokenError, match=found):
            await run(harness, lambda case, p=protection: CONTRACT.test_f22_protection(case, p))  # type: ignore[misc]


async def test_a_wrong_signature_that_is_accepted_is_found(run: Run) -> None:
    harness = Around()
    # The fault has no effect, so the signature is right.
    harness.arm = lambda fault: ExampleHarness().arm(fault)  # type: ignore[method-assign]
    for test in (CONTRACT.test_corrupted_signature, CONTRACT.test_truncated_signature, CONTRACT.test_other_key):
        with pytest.raises(ContractBrokenError, match="a wrong signature is accepted"):
            await run(harness, lambda case, test=test: test(case, ES256))  # type: ignore[misc]
