"""Gateways while the service rotates its keys: every token passes from the moment it is signed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest

from interop.gateways import apache, envoy, haproxy, nginx
from interop.gateways.common import HTTP_OK, Gateway, Setup
from interop.interop_support import Realm, header_of
from interop.python_env import PythonEnv
from interop.secure_support import readable_directory, secure_realm
from sealwright.v1.keys_pb2 import Key, ListKeysRequest, RevokeKeysRequest, RevokeKeysResponse
from support.document import QUICK_TIMING, quick_issuer

SCHEDULED, BY_HAND = "scheduled", "by-hand"
ROTATIONS = 2
SHORT_CACHE = 1
"""The max-age of the sets of `quick_issuer`; the lead with `QUICK_TIMING` is 4 seconds."""

LONG_CACHE = 60
_ENOUGH = 20
"""Requests with each key, one each 100 ms: more than a cache lasts."""

_MOST_SECONDS = 60
_UNAUTHORIZED = 401
STARTS = {"envoy": envoy.start, "nginx": nginx.start, "apache": apache.start}


@dataclass(frozen=True, slots=True)
class Road:
    """The service, and gateways before the same API."""

    setup: Setup
    gateways: dict[str, Gateway]


@pytest.fixture(scope="module")
def rotating() -> Iterator[Realm]:
    scheduled = quick_issuer(SCHEDULED)
    scheduled["series"][0]["rotation_period"] = "1s"
    with secure_realm(scheduled, quick_issuer(BY_HAND), timing=QUICK_TIMING) as realm:
        yield realm


def _road(stack: ExitStack, env: PythonEnv, realm: Realm, issuer: str, cache_seconds: int) -> Road:
    directory = stack.enter_context(readable_directory())
    setup = Setup(directory=directory, env=env, realm=realm, issuers=[issuer], cache_seconds=cache_seconds)
    return Road(setup, {name: stack.enter_context(start(setup)) for name, start in STARTS.items()})


def test_no_gateway_refuses_one_token_across_rotations(rotating: Realm, env: PythonEnv) -> None:
    with ExitStack() as stack:
        road = _road(stack, env, rotating, SCHEDULED, SHORT_CACHE)
        own = replace(road.setup, directory=stack.enter_context(readable_directory()))
        road.gateways["haproxy"] = stack.enter_context(haproxy.start(own))
        exported = {key["kid"] for key in rotating.published(SCHEDULED)}
        passed: Counter[tuple[str, str]] = Counter()
        signed: dict[str, str] = {}
        deadline = time.monotonic() + _MOST_SECONDS
        while len(signed) <= ROTATIONS or min(passed.values()) < _ENOUGH:
            assert time.monotonic() < deadline, passed
            published = {key["kid"] for key in rotating.published(SCHEDULED)}
            if published != exported:
                haproxy.reload(own, road.gateways["haproxy"])
                exported = published
            token = rotating.sign("ES256", SCHEDULED).token
            signed.setdefault(header_of(token)["kid"], token)
            # Tokens of keys that have retired since must pass too.
            for kid, one in {**signed, header_of(token)["kid"]: token}.items():
                for name, gateway in road.gateways.items():
                    assert gateway.status(SCHEDULED, one) == HTTP_OK, (name, kid, signed.keys(), passed)
                    passed[name, kid] += 1
            time.sleep(0.1)
    assert set(passed) == {(name, kid) for name in road.gateways for kid in signed}


def test_a_key_that_signs_before_its_lead_is_refused_by_those_that_cache(rotating: Realm, env: PythonEnv) -> None:
    """The control: the same gateways tell, where the service is made to sign with a key as young as can be."""
    with ExitStack() as stack:
        road = _road(stack, env, rotating, BY_HAND, LONG_CACHE)
        before = rotating.sign("ES256", BY_HAND).token
        assert {n: g.status(BY_HAND, before) for n, g in road.gateways.items()} == dict.fromkeys(STARTS, HTTP_OK)
        active, standby = rotating.keys.ListKeys(ListKeysRequest(parent=f"issuers/{BY_HAND}"), timeout=10).keys
        _revoke(rotating, active)
        _wait_for_another_key(rotating, {active.kid, standby.kid})
        assert any("young standby" in warning for warning in _revoke(rotating, standby).warnings)
        after = rotating.sign("ES256", BY_HAND).token
        statuses = {name: gateway.status(BY_HAND, after) for name, gateway in road.gateways.items()}
    # Apache fetches the set anew for a kid that it does not know; the others wait until their caches end.
    assert statuses == {"envoy": _UNAUTHORIZED, "nginx": _UNAUTHORIZED, "apache": HTTP_OK}


def _revoke(realm: Realm, key: Key) -> RevokeKeysResponse:
    revoked: RevokeKeysResponse = realm.keys.RevokeKeys(RevokeKeysRequest(name=key.name, reason="a drill"), timeout=10)
    return revoked


def _wait_for_another_key(realm: Realm, known: set[str]) -> None:
    deadline = time.monotonic() + _MOST_SECONDS
    while all(key["kid"] in known for key in realm.published(BY_HAND)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
