"""Envoy, jwt_authn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from interop.gateways.common import HTTP_OK, Gateway, Setup, foreground, free_ports
from interop.interop_support import AUDIENCE, issuer_url

_TYPE = "type.googleapis.com/envoy.extensions"
_LEAST_SKEW = 1
"""0 means its default, 60 seconds."""


@contextmanager
def start(setup: Setup) -> Iterator[Gateway]:
    """Run it with a route for each issuer."""
    binary = setup.env.file("envoy/_bin/envoy")
    config, port = setup.directory / "envoy.json", free_ports(1)[0]
    config.write_text(json.dumps(_config(setup, port)))
    # Shared memory would be shared with any other Envoy of this machine that has the same base id.
    arguments: list[str | Path] = ["-c", config, "--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warn"]
    with foreground(setup, binary, arguments, {name: (port, f"/{name}/x") for name in setup.issuers}) as gateway:
        yield gateway


def _config(setup: Setup, port: int) -> dict[str, Any]:
    manager = {
        "@type": f"{_TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": HTTP_OK}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "jwt",
                "typed_config": {
                    "@type": f"{_TYPE}.filters.http.jwt_authn.v3.JwtAuthentication",
                    "providers": {name: _provider(setup, name) for name in setup.issuers},
                    "rules": [
                        {"match": {"prefix": f"/{name}/"}, "requires": {"provider_name": name}}
                        for name in setup.issuers
                    ],
                },
            },
            {"name": "router", "typed_config": {"@type": f"{_TYPE}.filters.http.router.v3.Router"}},
        ],
    }
    listener = {
        "address": _address("127.0.0.1", port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [_cluster(setup)]}}


def _provider(setup: Setup, name: str) -> dict[str, Any]:
    # Fetched in advance, a set is kept for as long as the next one cannot be fetched. Otherwise the first request of each worker
    # waits for a fetch, and its failure is a 401.
    ahead = {} if setup.obeys else {"async_fetch": {"fast_listener": False, "failed_refetch_duration": "1s"}}
    return {
        "issuer": issuer_url(name),
        "audiences": [AUDIENCE],
        "clock_skew_seconds": _LEAST_SKEW,
        "remote_jwks": {
            "http_uri": {"uri": setup.realm.url(name), "cluster": "jwks", "timeout": "1s" if setup.obeys else "2s"},
            "cache_duration": f"{setup.cache_seconds}s",
            **ahead,
        },
    }


def _cluster(setup: Setup) -> dict[str, Any]:
    host, _, port = setup.realm.http.rpartition(":")
    endpoint = {"endpoint": {"address": _address(host, int(port))}}
    cluster: dict[str, Any] = {
        "name": "jwks",
        "type": "STRICT_DNS",
        "dns_lookup_family": "V4_ONLY",
        "load_assignment": {"cluster_name": "jwks", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    if not setup.realm.ca:
        return cluster
    validation = {
        "trusted_ca": {"filename": setup.realm.ca},
        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": host}}],
    }
    tls = {
        "@type": f"{_TYPE}.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": host,
        "common_tls_context": {"validation_context": validation},
    }
    return {**cluster, "transport_socket": {"name": "tls", "typed_config": tls}}


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}
