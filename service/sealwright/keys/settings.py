"""Settings of timing, and what `keys/lifecycle.py` needs to know of the settings."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Final

from pydantic import ValidationInfo, field_validator

from sealwright.issuer_settings import IssuerSettings, SeriesSettings
from sealwright.keys.lifecycle import Limits
from sealwright.keys.steps import SeriesPolicy
from sealwright.settings import Duration, PositiveDuration, Settings

SPREAD: Final = 0.1
"""Scheduled rotations are moved by up to this part of their time, so that series that began together do not rotate together."""
_SHARE_BYTES: Final = 6  # fits into the 53 bits of a float


class TimingSettings(Settings):
    """Tolerances for clocks, reads of the store and caches.

    Attributes:
        max_clock_error: Largest difference between a replica's clock and the store's at which the replica still signs.
        verifier_skew: K; largest difference between the clocks of signers and verifiers; at least twice `max_clock_error`.
        refresh_interval: Time between two reads of the store.
        max_staleness: S; longest time after a confirmed read of the store for which a replica still signs.
        clock_settle_time: How long a jump of the store's clock must last until the service takes the new time for right.
        max_serve_age: Longest time for which a replica that cannot reach the store serves its JWK Sets.
        verifier_refresh: How long a verifier may keep a JWK Set, whatever `Cache-Control` says.
    """

    max_clock_error: PositiveDuration = timedelta(seconds=5)
    verifier_skew: PositiveDuration = timedelta(minutes=1)
    refresh_interval: PositiveDuration = timedelta(seconds=1)
    max_staleness: PositiveDuration = timedelta(minutes=15)
    max_serve_age: PositiveDuration = timedelta(hours=24)
    verifier_refresh: Duration = timedelta(hours=12)
    clock_settle_time: PositiveDuration = timedelta(minutes=15)

    @field_validator("verifier_skew")
    @classmethod
    def _covers_two_clocks(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        if value < 2 * info.data.get("max_clock_error", timedelta()):
            raise ValueError("must be at least twice max_clock_error")
        return value

    @field_validator("max_staleness")
    @classmethod
    def _leaves_time_to_read(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        if value <= info.data.get("refresh_interval", timedelta()):
            raise ValueError("must be longer than refresh_interval")
        return value

    @field_validator("max_serve_age")
    @classmethod
    def _serves_while_it_signs(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        if value < info.data.get("max_staleness", timedelta()):
            raise ValueError("must be at least max_staleness")
        return value


def limits(issuer: IssuerSettings, timing: TimingSettings) -> Limits:
    """Return the limits that the configuration sets for an issuer. The limits in force are those of the store."""
    return Limits(
        max_staleness=timing.max_staleness,
        max_age=issuer.jwks.max_age,
        stale_if_error=issuer.jwks.stale_if_error,
        max_lifetime=issuer.max_lifetime,
        verifier_skew=timing.verifier_skew,
        max_serve_age=timing.max_serve_age,
    )


def share(deployment_id: str, issuer: str, series: str) -> float:
    """Return a number from 0 to 1 for a series: the same on every replica, and as good as random among series and deployments."""
    text = f"{deployment_id}\n{issuer}\n{series}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:_SHARE_BYTES]) / 256**_SHARE_BYTES


def series_policy(series: SeriesSettings, timing: TimingSettings, *, issuer: str, deployment_id: str) -> SeriesPolicy:
    """Return what the lifecycle needs to know of a series."""
    return SeriesPolicy(
        name=series.name,
        rotation_period=series.rotation_period,
        min_lead=series.min_lead,
        destroy_after=series.destroy_after,
        create=series.create,
        verifier_refresh=timing.verifier_refresh,
        moved=SPREAD * share(deployment_id, issuer, series.name),
    )
