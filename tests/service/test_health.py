"""F24: health says what callers meet, for each issuer, with a reason, and comes back by itself."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path

import grpc
import pytest

from sealwright.clock import Clock
from sealwright.keys import health
from sealwright_testing.emulators.aws import AwsEmulator
from sealwright_testing.emulators.aws.specs import KeyState
from support.document import document, issuer, series
from support.service import Service, failure, running, until


@pytest.fixture(autouse=True)
def _quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PROBE_SECONDS", 0.2)


def ready(service: Service, status: int, text: str = "") -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        found, _, body = await service.get("/readyz")
        return found == status and text in body.decode()

    return check


async def metric(service: Service, line: str) -> bool:
    return line in (await service.get("/metrics", at="admin"))[2].decode().splitlines()


@pytest.mark.parametrize("fault", ["drop_connection", "http_500"])
async def test_f24_a_kms_that_does_not_answer_is_seen_without_any_call_and_so_is_its_return(
    service: Service, emulator: AwsEmulator, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    caplog.set_level(logging.INFO)
    await until(ready(service, 200))
    emulator.add_fault(fault)
    await until(ready(service, 503, "provider aws does not answer (PROVIDER_UNAVAILABLE)"))
    assert await metric(service, 'sealwright_issuer_can_sign{issuer="payments"} 0.0')
    assert await metric(service, 'sealwright_provider_up{provider="aws"} 0.0')
    assert (await service.get("/healthz"))[0] == 200
    assert (await service.get("/readyz/jwks"))[0] == 200
    emulator.clear_faults()
    await until(ready(service, 200))
    assert (await service.sign()).token
    expected = [
        "issuer payments cannot sign: ES256: provider aws does not answer (PROVIDER_UNAVAILABLE)",
        "issuer payments can sign again",
    ]

    async def logged() -> bool:
        return [m for m in caplog.messages if m.startswith("issuer payments can")] == expected

    await until(logged)


async def test_f24_a_disabled_key_is_seen_by_the_first_call_and_so_is_its_return(
    service: Service, emulator: AwsEmulator
) -> None:
    active = (await service.sign()).kid
    key = next(k for k in await service.list_keys() if k.kid == active)
    arn = key.key_uri.removeprefix("awskms:///")
    emulator.set_key_state(arn, KeyState.DISABLED)
    assert (await failure(service.sign())).reason == "PROVIDER_KEY_DISABLED"
    await until(ready(service, 503, "PROVIDER_KEY_DISABLED"))
    assert await metric(service, 'sealwright_provider_up{provider="aws"} 1.0')
    emulator.set_key_state(arn, KeyState.ENABLED)
    await until(ready(service, 200))


async def test_f24_an_issuer_with_another_series_stays_ready(tmp_path: Path, emulator: AwsEmulator) -> None:
    both = issuer("payments", series=[series(name="first"), series(name="second", provider="other")])
    config = document(tmp_path, emulator.endpoint, both, issuer("alone"))
    async with AwsEmulator() as second:
        config["providers"]["other"] = {**config["providers"]["aws"], "endpoint_url": second.endpoint}
        async with running(config) as service:
            emulator.add_fault("drop_connection")
            await until(ready(service, 503, "1 issuers cannot sign"))
            assert (await service.sign()).token
            assert await metric(service, 'sealwright_issuer_can_sign{issuer="payments"} 1.0')
            assert await metric(service, 'sealwright_issuer_can_sign{issuer="alone"} 0.0')


async def test_callers_with_hasty_deadlines_do_not_change_health(service: Service, emulator: AwsEmulator) -> None:
    emulator.add_fault("delay", operation="Sign", seconds=0.3)
    for _ in range(8):
        with pytest.raises(grpc.aio.AioRpcError):
            await service.sign(timeout=0.05)
    assert await ready(service, 200)()


async def test_f25_hasty_callers_beside_others_do_not_fill_the_log(
    service: Service, emulator: AwsEmulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    for _ in range(5):
        emulator.add_fault("delay", operation="Sign", seconds=0.3)
        assert (await failure(service.sign(timeout=0.05))).code == "DEADLINE_EXCEEDED"
        emulator.clear_faults()
        assert (await service.sign()).token
    assert service.app.health.calm
    assert "does not sign" not in caplog.text


class Shifted:
    """A clock that is ahead."""

    def __init__(self, clock: Clock, *, now: float = 0, elapsed: float = 0) -> None:
        self._clock, self._now, self._elapsed = clock, timedelta(seconds=now), elapsed

    def now(self) -> datetime:
        return self._clock.now() + self._now

    def elapsed(self) -> float:
        return self._clock.elapsed() + self._elapsed


@pytest.mark.parametrize(
    ("shift", "problem"),
    [({}, None), ({"now": 3600}, "clock"), ({"now": -3600}, "clock"), ({"elapsed": 3600}, "store")],
)
async def test_f24_all_issuers_at_once_have_the_problem_that_each_has_alone(
    service: Service,
    emulator: AwsEmulator,
    monkeypatch: pytest.MonkeyPatch,
    shift: dict[str, float],
    problem: str | None,
) -> None:
    readiness, keyring = service.app.readiness, service.app.keyring
    await until(ready(service, 200))
    assert readiness.problems() == {"payments": None}
    with monkeypatch.context() as changed:
        changed.setattr(keyring, "_clock", Shifted(keyring._clock, **shift))
        found = readiness.problems()
        assert found == {"payments": readiness.problem("payments")}
        assert (found["payments"] is None) if problem is None else (problem in str(found["payments"]))
    emulator.add_fault("drop_connection")
    await until(ready(service, 503))
    assert readiness.problems() == {"payments": readiness.problem("payments")} != {"payments": None}
