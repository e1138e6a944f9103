"""What the provider needs of a way to AWS KMS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of AWS KMS.

    Attributes:
        fields: The fields; blobs as bytes.
        request_id: As CloudTrail knows the call.
    """

    fields: dict[str, Any]
    request_id: str


class Transport(Protocol):
    """A way to AWS KMS."""

    async def call(self, operation: str, fields: dict[str, Any], *, timeout: float) -> Answer:
        """Call an operation of the API, once.

        Args:
            operation: Name in the API Reference.
            fields: Its request; blobs as bytes.
            timeout: Seconds that it may take.

        Raises:
            ProviderError: KMS says no, or nothing.
        """
        ...

    async def aclose(self) -> None:
        """Close it. May be called twice."""
        ...
