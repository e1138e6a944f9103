"""The URL of a PostgreSQL store, and the parameters of libpq that it stands for.

It has libpq's own form (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS), with one host or
several. Only the parameters that are listed here are passed on, and what would weaken a connection is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final
from urllib.parse import unquote

_URL: Final = re.compile(
    r"postgresql://(?:(?P<user>[^@/?#]*)@)?(?P<hosts>[^@/?#]*)(?:/(?P<dbname>[^/?#]*))?(?:\?(?P<query>[^#]*))?"
)
_HOST: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\[\]:]+)(?::(?P<port>[0-9]{1,5}))?")
FILES: Final = ("passfile", "sslrootcert", "sslcert", "sslkey", "sslcrl")
"""Parameters that name a file. `system` is also a value of sslrootcert."""
_PLAIN: Final = frozenset({
    "host", "port", "service", "sslmode", "channel_binding", "require_auth", "gssencmode", "krbsrvname",
    "application_name", "connect_timeout", "load_balance_hosts", *FILES,
})  # fmt: skip
_FULL: Final = "verify-full"
_NO_SECRETS: Final = (
    "must not contain a password: put it into a password file (?passfile=/path, ~/.pgpass or PGPASSFILE), "
    "a service file or PGPASSWORD"
)


def parameters(url: str) -> dict[str, str]:
    """Return the parameters for libpq.

    Raises:
        ValueError: The URL cannot be used. The message does not contain it.
    """
    found = _URL.fullmatch(url)
    if found is None or not url.isprintable():
        raise ValueError("must have the form postgresql://user@host:port/database?parameter=value")
    user = found["user"] or ""
    if ":" in user:
        raise ValueError(_NO_SECRETS)
    given = dict(_query(found["query"] or ""))
    if found["hosts"]:
        if "host" in given or "port" in given:
            raise ValueError("must name the hosts once: before the path, or as the parameter `host`")
        hosts, ports = _hosts(found["hosts"])
        given |= {"host": ",".join(hosts), "port": ",".join(ports)}
    given |= {n: unquote(v) for n, v in (("user", user), ("dbname", found["dbname"] or "")) if v}
    if "host" not in given and "service" not in given:
        raise ValueError(
            "must name a host, the directory of a socket (?host=/run/postgresql) or a service (?service=name)"
        )
    _check_tls(given)
    return given


def is_local(host: str) -> bool:
    """Return whether a host is this machine: a loopback address or the directory of a socket."""
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _query(text: str) -> Iterator[tuple[str, str]]:
    seen = set()
    for part in filter(None, text.split("&")):
        name, _, value = part.partition("=")
        if name in {"password", "sslpassword"}:
            raise ValueError(_NO_SECRETS)
        if name not in _PLAIN:
            raise ValueError(f"must only have the parameters {', '.join(sorted(_PLAIN))}")
        if name in seen or not value:
            raise ValueError(f"must have the parameter {name} once, with a value")
        seen.add(name)
        yield name, unquote(value)


def _hosts(text: str) -> tuple[list[str], list[str]]:
    hosts, ports = [], []
    for one in text.split(","):
        found = _HOST.fullmatch(one)
        if found is None or int(found["port"] or 1) not in range(1, 65536):
            raise ValueError("must have hosts of the form name, name:port or [IPv6 address]:port, separated by commas")
        hosts.append(unquote(found["host"].strip("[]")))
        ports.append(found["port"] or "5432")
    return hosts, ports


def _check_tls(given: dict[str, str]) -> None:
    """Let every connection that leaves this machine be encrypted, and the database prove its name."""
    hosts = given["host"].split(",") if "host" in given else []
    if hosts and all(is_local(h) for h in hosts):
        return
    if given.setdefault("sslmode", _FULL) != _FULL:
        raise ValueError(f"must not have another sslmode than {_FULL}, except for this machine")
    if hosts and "sslrootcert" not in given and "service" not in given:
        raise ValueError(
            "must say which authority signs the certificate of the database: ?sslrootcert=/path/to/ca.pem, or =system"
        )
