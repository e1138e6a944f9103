from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from interop import node_support, python_env
from interop.interop_support import ISSUERS, RSA_BITS, Realm, Tokens, make_tokens
from interop.node_support import Node
from interop.python_env import PythonEnv
from interop.secure_support import Minted, matrix_issuers, mint, secure_realm
from support.document import document, issuer, series
from support.processes import process, write_config


@pytest.fixture(scope="session")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Realm]:
    directory = tmp_path_factory.mktemp("interop")
    issuers = [issuer(name, mixed_key_types=True, series=_series(name)) for name in ISSUERS]
    with process(directory, "sealwright-emulator", "aws", "--port", "0") as kms:
        config = write_config(directory, document(directory, kms.ready["endpoint"], *issuers))
        with (
            process(directory, "sealwright", "serve", "--config", config) as service,
            grpc.insecure_channel(service.ready["grpc"]) as channel,
        ):
            yield Realm(channel, service.ready["http"], config)


@pytest.fixture(scope="session")
def tokens(realm: Realm) -> Tokens:
    return make_tokens(realm)


@pytest.fixture(scope="session")
def node() -> Node:
    return node_support.install()


@pytest.fixture(scope="session")
def env() -> PythonEnv:
    return python_env.install()


@pytest.fixture(scope="session")
def secure() -> Iterator[Realm]:
    with secure_realm(*matrix_issuers()) as realm:
        yield realm


@pytest.fixture(scope="session")
def minted(secure: Realm) -> Minted:
    return mint(secure)


def _series(name: str) -> list[dict[str, Any]]:
    bits: dict[str, Any] = {"rsa_bits": RSA_BITS[name]} if name in RSA_BITS else {}
    return [
        series(a, name=f"{a.lower()}-{i}", **({} if a.startswith("ES") else bits)) for i, a in enumerate(ISSUERS[name])
    ]
