"""Gateways of others in front of an API, which they guard with the sets that the service serves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from interop.gateways import apache, envoy, haproxy, nginx
from interop.gateways.common import HTTP_OK, Gateway, Setup, Start
from interop.interop_support import Realm
from interop.matrix import COMMON, EC_ONLY, GATEWAYS, RSA_3072, RSA_ONLY, SETS, rows
from interop.python_env import PythonEnv
from interop.secure_support import KINDS, TYPES, Minted, readable_directory

ROWS = rows(GATEWAYS)
STARTS: Mapping[str, Start] = {
    "envoy": envoy.start,
    "nginx": nginx.start,
    "apache": apache.start,
    "haproxy": haproxy.start,
}
CELLS = [(name, algorithm) for name, algorithms in SETS.items() for algorithm in algorithms]
UNAUTHORIZED = 401
NGINX_BUFFER = 4096


@pytest.fixture(scope="module", params=ROWS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def gateway(name: str, env: PythonEnv, secure: Realm, minted: Minted) -> Iterator[Gateway]:
    with (
        readable_directory() as directory,
        STARTS[name](Setup(directory=directory, env=env, realm=secure, issuers=list(minted))) as running,
    ):
        yield running


@pytest.mark.parametrize(("issuer", "algorithm"), CELLS)
def test_a_good_token_passes_where_its_row_says_so(
    name: str, gateway: Gateway, issuer: str, algorithm: str, minted: Minted
) -> None:
    for typ in TYPES:
        status = gateway.status(issuer, minted[issuer]["good"][f"{algorithm}/{typ}"])
        assert status == (HTTP_OK if ROWS[name].verifies(algorithm) else UNAUTHORIZED)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "good"])
@pytest.mark.parametrize("issuer", SETS)
def test_a_bad_token_does_not(gateway: Gateway, issuer: str, kind: str, minted: Minted) -> None:
    for algorithm in SETS[issuer]:
        for typ in TYPES:
            assert gateway.status(issuer, minted[issuer][kind][f"{algorithm}/{typ}"]) == UNAUTHORIZED


def test_a_token_of_another_issuer_does_not(gateway: Gateway, minted: Minted) -> None:
    assert gateway.status(EC_ONLY, minted[EC_ONLY]["good"]["ES256/JWT"]) == HTTP_OK
    assert gateway.status(COMMON, minted[EC_ONLY]["good"]["ES256/JWT"]) == UNAUTHORIZED


@pytest.mark.parametrize("name", ["nginx"], indirect=True)
def test_nginx_reads_a_set_up_to_its_buffer(gateway: Gateway, secure: Realm, minted: Minted) -> None:
    read = {
        issuer: gateway.status(f"{nginx.BARE}/{issuer}", minted[issuer]["good"]["RS256/JWT"]) == HTTP_OK
        for issuer in (COMMON, RSA_3072, RSA_ONLY)
    }
    assert read == {issuer: len(secure.fetch(issuer)) <= NGINX_BUFFER for issuer in read}
    assert set(read.values()) == {True, False}
