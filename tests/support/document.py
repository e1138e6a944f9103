"""Configurations for tests, as TOML documents that tests change where they need to."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

QUICK_TIMING = {
    "max_clock_error": "500ms",
    "verifier_skew": "1s",
    "max_staleness": "1s",
    "max_serve_age": "2s",
    "refresh_interval": "100ms",
}
"""With `quick_issuer`: a lead and a scheduled wait of seconds."""

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
"""What the emulator lets in."""


def series(algorithm: str = "ES256", *, name: str = "", provider: str = "aws", **more: Any) -> dict[str, Any]:
    """Return a series."""
    return {"name": name or algorithm.lower(), "algorithm": algorithm, "provider": provider, **more}


def issuer(name: str = "payments", *algorithms: str, **more: Any) -> dict[str, Any]:
    """Return an issuer with a series for each algorithm."""
    return {
        "name": name,
        "url": f"https://id.example.com/{name}",
        "series": [series(a) for a in algorithms or ("ES256",)],
        **more,
    }


def quick_issuer(name: str = "payments", **more: Any) -> dict[str, Any]:
    """Return an issuer whose keys have a lead of 4 seconds with `QUICK_TIMING`."""
    quick = issuer(name, jwks={"max_age": "1s", "stale_if_error": "0s"}, **more)
    for one in quick["series"]:
        one.setdefault("min_lead", "0s")
    return quick


def store_url(directory: Path) -> str:
    """Return the URL of a store. Tests that run on several databases replace this function."""
    return f"sqlite:///{directory}/state.db"


def document(directory: Path, endpoint: str, *issuers: dict[str, Any], **tables: Any) -> dict[str, Any]:
    """Return a configuration for one AWS emulator, in which the local caller may do everything.

    Args:
        directory: For the store and the audit.
        endpoint: Of the emulator.
        issuers: The issuers; by default one, `payments`, with ES256.
        tables: Replace whole tables.
    """
    return copy.deepcopy(
        {
            "server": {"grpc": "127.0.0.1:0", "http": "127.0.0.1:0", "admin": "127.0.0.1:0", "insecure_local": True},
            "timing": {"refresh_interval": "100ms"},
            "store": {"url": store_url(directory)},
            "audit": {"path": f"{directory}/audit"},
            "providers": {"aws": {"kind": "aws", "region": "eu-west-1", "endpoint_url": endpoint}},
            "issuers": list(issuers) or [issuer()],
            "grants": [
                {
                    "caller": "local",
                    "roles": ["signer", "rotator", "revoker", "auditor"],
                    "issuers": ["*"],
                    "subjects": ["**"],
                    "audiences": ["**"],
                    "token_types": ["*"],
                },
            ],
            **tables,
        },
    )


def tool_missing(what: str) -> None:
    """Skip a test whose tool is missing here; fail where all must be there."""
    import pytest  # noqa: PLC0415 - benchmarks use this module without pytest

    if os.environ.get("SEALWRIGHT_REQUIRE_ALL") == "1":
        pytest.fail(f"{what} is missing, and SEALWRIGHT_REQUIRE_ALL=1")
    pytest.skip(f"{what} is missing")
