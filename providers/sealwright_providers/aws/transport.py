"""The interface between the provider and its connection to AWS KMS."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

REPEATABLE: Final = frozenset(
    {
        "Sign",
        "GenerateMac",
        "GetPublicKey",
        "DescribeKey",
        "ListKeys",
        "ListResourceTags",
        "DisableKey",
        "ScheduleKeyDeletion",
    }
)
"""Operations that KMS may get twice. CreateKey would make two keys."""


class Answer(NamedTuple):
    """An answer of AWS KMS.

    Attributes:
        fields: The fields, with blobs as bytes.
        request_id: The ID of the call in CloudTrail; None if the answer has none.
    """

    fields: dict[str, Any]
    request_id: str | None


class Transport(Protocol):
    """A connection to AWS KMS."""

    async def call(self, operation: str, fields: dict[str, Any], *, timeout: float) -> Answer:
        """Call an operation of the API, once.

        Args:
            operation: Its name in the API Reference.
            fields: The request, with blobs as bytes.
            timeout: Seconds that the call may take.

        Raises:
            ProviderError: KMS refused, failed or did not answer.
        """
        ...

    async def account(self, *, timeout: float) -> str:
        """Return the number of the account that the credentials belong to.

        Raises:
            ProviderError: AWS STS does not tell.
        """
        ...

    async def aclose(self) -> None:
        """Close it. May be called twice."""
        ...
