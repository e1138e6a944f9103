"""Translates errors to `google.rpc.Status` (AIP-193)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final

from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2  # type: ignore[import-untyped]

from sealwright.errors import DOMAIN, SealwrightError, Violation

_ANY_ID: Final = str(uuid.UUID(int=0))
_MAX_VIOLATIONS: Final = 50
_MAX_VIOLATION_BYTES: Final = 4096


def to_status(error: SealwrightError, request_id: str) -> status_pb2.Status:
    """Return the status of an error: ErrorInfo, RequestInfo, and BadRequest and RetryInfo if they apply."""
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code.value), message=error.message)
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata),
        error_details_pb2.RequestInfo(request_id=request_id),
    ]
    if error.violations:
        details.append(_bad_request(error.violations))
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(max(error.retry_after, 0) * 1e9))
        details.append(retry)
    for detail in details:
        status.details.add().Pack(detail)
    return status


class Prepared:
    """The status of an error that is returned thousands of times a second: only the ID of the request differs.

    Attributes:
        error: The error.
        code: Its status code.
        message: Its status message.
    """

    def __init__(self, error: SealwrightError) -> None:
        status = to_status(error, _ANY_ID)
        self.error, self.code, self.message = error, status.code, status.message
        self._details: bytes = status.SerializeToString()

    def details(self, request_id: str) -> bytes:
        """Return the serialized status.

        Args:
            request_id: A UUID, as text.
        """
        return self._details.replace(_ANY_ID.encode(), request_id.encode())


def _bad_request(violations: Sequence[Violation]) -> error_details_pb2.BadRequest:
    """List at most 50 violations and 4 kB of them, then their number: clients drop trailers larger than 8 kB."""
    bad = error_details_pb2.BadRequest()
    size = 0
    for shown, violation in enumerate(violations):
        size += len(violation.field.encode()) + len(violation.description.encode()) + 8
        if shown == _MAX_VIOLATIONS or size > _MAX_VIOLATION_BYTES:
            bad.field_violations.add(field="", description=f"and {len(violations) - shown} more")
            break
        bad.field_violations.add(field=violation.field, description=violation.description)
    return bad
