"""Configurations of the design and of these tests."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from typing import Any

from sealwright.config import parse
from sealwright.errors import ConfigurationError

SAMPLE = """
[server]
grpc = "127.0.0.1:8443"
http = "127.0.0.1:8080"
admin = "127.0.0.1:9090"
workers = 1
insecure_local = false

[server.tls]
certificate = "/etc/sealwright/tls.crt"
private_key = "/etc/sealwright/tls.key"
client_ca = "/etc/sealwright/clients.crt"

[timing]
max_clock_error = "5s"
verifier_skew = "1m"
max_staleness = "15m"
max_serve_age = "24h"
refresh_interval = "1s"

[store]
url = "sqlite:////var/lib/sealwright/state.db"

[audit]
path = "/var/log/sealwright"

[providers.aws-eu]
kind = "aws"
region = "eu-west-1"

[[issuers]]
name = "payments"
url = "https://id.example.com/payments"
default_lifetime = "10m"
max_lifetime = "1h"
max_token_bytes = 7168
token_types = ["JWT", "at+jwt"]

[issuers.jwks]
max_age = "5m"
stale_if_error = "10m"

[[issuers.series]]
name = "es256-eu"
algorithm = "ES256"
provider = "aws-eu"
rotation_period = "30d"
min_lead = "1h"

[[grants]]
caller = "spiffe://example.org/ns/payments/sa/*"
roles = ["signer"]
issuers = ["payments"]
subjects = ["**"]
audiences = ["https://api.example.com/**"]
token_types = ["at+jwt"]
"""
"""The whole sample of the design, with `[server.tls]`."""


def sample() -> dict[str, Any]:
    """Return the sample as a document."""
    return tomllib.loads(SAMPLE)


def problems(document: dict[str, Any]) -> list[str]:
    """Return what is wrong with a document."""
    try:
        parse(document)
    except ConfigurationError as error:
        return list(error.problems)
    return []


def problems_after(change: Callable[[dict[str, Any]], object]) -> list[str]:
    """Return what is wrong with the sample after a change."""
    document = sample()
    change(document)
    return problems(document)


def at(document: dict[str, Any], *path: str | int) -> Any:
    """Return a part of a document, making the tables that are missing."""
    part: Any = document
    for step in path:
        part = part.setdefault(step, {}) if isinstance(part, dict) else part[step]
    return part


def problems_with(path: str, value: Any) -> list[str]:
    """Return what is wrong with the sample after one value, whose path is given with dots, was set."""
    *parents, last = [int(p) if p.isdigit() else p for p in path.split(".")]
    return problems_after(lambda d: at(d, *parents).__setitem__(last, value))
