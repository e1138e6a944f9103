"""The limits of an issuer with the default settings."""

from __future__ import annotations

from datetime import timedelta

from sealwright.keys.lifecycle import Limits

LIMITS = Limits(
    max_staleness=timedelta(minutes=15),
    max_age=timedelta(minutes=5),
    stale_if_error=timedelta(minutes=10),
    max_lifetime=timedelta(hours=1),
    verifier_skew=timedelta(minutes=1),
    max_serve_age=timedelta(hours=24),
)
