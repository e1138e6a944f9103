"""Settings that every provider has, whatever its kind."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from sealwright.settings import PositiveDuration, Settings


class ProviderSettings(Settings):
    """What the guard around a provider needs; kinds add their own fields in a subclass.

    Attributes:
        kind: Which kind of provider it is.
        timeout: Longest time of one call to the backend; a call also ends with its caller's deadline.
        manage_timeout: Longest time of creating a key, finding it again, or scheduling its deletion.
        max_in_flight: Calls under way at once, per worker.
        max_queue: Calls that may wait for one of those places, per worker; more are refused at once.
    """

    kind: str
    timeout: PositiveDuration = timedelta(seconds=3)
    manage_timeout: PositiveDuration = timedelta(seconds=30)
    max_in_flight: int = Field(default=64, ge=1, le=10_000)
    max_queue: int = Field(default=256, ge=0, le=100_000)
