"""The record of a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sealwright_testing.emulators.calls import PENDING


@dataclass(slots=True, kw_only=True)
class CallRecord:
    """One request.

    Attributes:
        time: When it arrived, in seconds since the epoch by the wall clock.
        operation: Such as `AsymmetricSign`.
        name: The resource that it is about.
        digest: Name of the digest that it has: `sha256`, `sha384`, `sha512`, or empty.
        data_length: Bytes of its `data`; None: it has none.
        has_crc: Whether it has a checksum of its digest or data.
        metadata: The headers without `authorization`.
        authorized: Whether it has a bearer token.
        outcome: `ok`, the name of a gRPC code, the fault that left it without an answer, `pending`, or `gone`.
    """

    time: float
    operation: str
    name: str = ""
    digest: str = ""
    data_length: int | None = None
    has_crc: bool = False
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    authorized: bool = False
    outcome: str = PENDING
