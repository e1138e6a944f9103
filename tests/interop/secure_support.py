"""The service as verifiers meet it, over HTTPS, with a set for each kind of reader."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import trustme

from interop.forging import Stranger
from interop.interop_support import Realm, header_of
from interop.matrix import COMMON, EC_ONLY, ODD, RSA_3072, SETS
from support.document import document, issuer, series
from support.processes import process, write_config

KINDS = ("good", "expired", "wrong_key", "unknown_kid")
TYPES = ("JWT", "at+jwt")
Minted = Mapping[str, Mapping[str, Mapping[str, str]]]
"""Tokens by set, then by kind, then by `algorithm/typ`."""


@contextmanager
def readable_directory() -> Iterator[Path]:
    """Make a folder that others can read too, unlike pytest's: Apache and nginx give up being root."""
    with tempfile.TemporaryDirectory(prefix="sealwright-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@contextmanager
def secure_realm(*issuers: Mapping[str, Any], **tables: Any) -> Iterator[Realm]:
    """Run the service with TLS for verifiers and a Unix socket for callers."""
    with readable_directory() as directory:
        server = {"grpc": f"unix:{directory}/grpc.sock", "http": "127.0.0.1:0", "admin": "127.0.0.1:0"}
        with process(directory, "sealwright-emulator", "aws", "--port", "0") as kms:
            wanted = document(directory, kms.ready["endpoint"], *map(dict, issuers), server=server, **tables)
            wanted["server"]["tls"] = _certificate(directory)
            wanted["grants"][0]["caller"] = f"unix:uid={os.geteuid()}"
            config = write_config(directory, wanted)
            with (
                process(directory, "sealwright", "serve", "--config", config) as service,
                grpc.insecure_channel(service.ready["grpc"]) as channel,
            ):
                port = service.ready["http"].rpartition(":")[2]
                yield Realm(channel, f"localhost:{port}", config, f"{directory}/ca.pem")


def matrix_issuers() -> list[dict[str, Any]]:
    """Return the issuers of the sets."""
    return [
        issuer(
            name,
            mixed_key_types=name in {COMMON, EC_ONLY, ODD},
            series=[_series(a, 3072 if name == RSA_3072 else 0) for a in algorithms],
        )
        for name, algorithms in SETS.items()
    ]


def mint(realm: Realm) -> Minted:
    """Make tokens of every kind; the expired ones have expired when it returns."""
    stranger, last = Stranger(), 0
    minted: dict[str, dict[str, dict[str, str]]] = {}
    for name, algorithms in SETS.items():
        kinds = minted[name] = {kind: {} for kind in KINDS}
        for algorithm in algorithms:
            for typ in TYPES:
                key = f"{algorithm}/{typ}"
                short = realm.sign(algorithm, name, lifetime=1, token_type=typ)
                last = max(last, short.expire_time.seconds)
                good = kinds["good"][key] = realm.sign(algorithm, name, token_type=typ).token
                kinds["expired"][key] = short.token
                kinds["wrong_key"][key] = stranger.sign(good, header_of(good)["kid"])
                kinds["unknown_kid"][key] = stranger.sign(good, "nobody")
    # Some verifiers still take a token in the very second of its exp, and Envoy's least leeway is a second more.
    time.sleep(max(0.0, last + 2.5 - time.time()))
    return minted


def _series(algorithm: str, bits: int) -> dict[str, Any]:
    more: dict[str, Any] = {"rsa_bits": bits} if bits else {}
    return series(algorithm, **more)


def _certificate(directory: Path) -> dict[str, str]:
    ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
    server = ca.issue_cert("localhost", key_type=trustme.KeyType.ECDSA)
    files = {name: str(directory / f"{name}.pem") for name in ("certificate", "private_key", "ca")}
    server.private_key_pem.write_to_path(files["private_key"])
    ca.cert_pem.write_to_path(files["ca"])
    for blob in server.cert_chain_pems:
        blob.write_to_path(files["certificate"], append=True)
    return {"certificate": files["certificate"], "private_key": files["private_key"], "client_ca": files["ca"]}
