"""Apache with mod_auth_openidc, as an OAuth 2.0 resource server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interop.gateways.common import Gateway, Setup, foreground, free_ports
from interop.interop_support import AUDIENCE, issuer_url
from support.document import tool_missing

_MODULES = Path("/usr/lib/apache2/modules")
_PAGE = "ok.txt"
_NEEDED = ("mpm_event", "authn_core", "authz_core", "authz_user", "auth_openidc")

_MAIN = """
ServerRoot {directory}
ServerName localhost
PidFile {directory}/apache.pid
DefaultRuntimeDir {directory}
ErrorLog {directory}/apache-error.log
DocumentRoot {directory}/pages
StartServers 1
OIDCCryptoPassphrase passphrase-of-this-test
OIDCCABundlePath {ca}
OIDCOAuthSSLValidateServer On
"""

_HOST = """
Listen 127.0.0.1:{port}
<VirtualHost 127.0.0.1:{port}>
  OIDCOAuthVerifyJwksUri {url}
  OIDCOAuthRemoteUserClaim sub
  OIDCJWKSRefreshInterval {seconds}
  <Location />
    AuthType oauth20
    <RequireAll>
      Require claim iss:{issuer}
      Require claim aud:{audience}
    </RequireAll>
  </Location>
</VirtualHost>
"""

_LEAST_REFRESH = 300
"""The module refuses less, and refetches at once for a kid that it does not know."""


@contextmanager
def start(setup: Setup) -> Iterator[Gateway]:
    """Run it with a virtual host for each issuer, since the JWK Set is set by host."""
    command = shutil.which("apache2", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if command is None or not (_MODULES / "mod_auth_openidc.so").exists():
        tool_missing("apache2 with mod_auth_openidc")
    assert command
    pages = setup.directory / "pages"
    pages.mkdir()
    (pages / _PAGE).write_text("ok\n")
    ports = dict(zip(setup.issuers, free_ports(len(setup.issuers)), strict=True))
    modules = "".join(f"LoadModule {name}_module {_MODULES}/mod_{name}.so\n" for name in _NEEDED)
    # Where root starts it, its workers are somebody else.
    user = "User www-data\nGroup www-data\n" if os.geteuid() == 0 else ""
    hosts = "".join(_host(setup, name, port) for name, port in ports.items())
    config = setup.directory / "apache.conf"
    config.write_text(modules + user + _MAIN.format(directory=setup.directory, ca=setup.realm.ca) + hosts)
    routes = {name: (port, f"/{_PAGE}") for name, port in ports.items()}
    with foreground(setup, command, ["-DFOREGROUND", "-f", config], routes) as gateway:
        yield gateway


def _host(setup: Setup, name: str, port: int) -> str:
    return _HOST.format(
        port=port,
        url=setup.realm.url(name),
        seconds=max(setup.cache_seconds, _LEAST_REFRESH),
        issuer=issuer_url(name),
        audience=AUDIENCE,
    )
