"""Errors of Google Cloud KMS: a gRPC code, a text, and details of `google.rpc`."""

from __future__ import annotations

from typing import Any, Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

REASONS: Final = {
    grpc.StatusCode.PERMISSION_DENIED: "IAM_PERMISSION_DENIED",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "RATE_LIMIT_EXCEEDED",
}
"""The reasons that Google gives for its own refusals (AIP-193, and `google.api.ErrorReason`)."""
DOMAINS: Final = {"IAM_PERMISSION_DENIED": "iam.googleapis.com"}


class KmsError(Exception):
    """An answer that is an error.

    Attributes:
        code: The gRPC code.
        message: The text. As at Google, it may name the key.
        violation: The `type` of a violation in a PreconditionFailure; empty: there is none.
        retry_after: Seconds for a RetryInfo; None: there is none.
        reason: Of an ErrorInfo; empty: there is none.
        request_id: Of a RequestInfo; empty: there is none, as is usual at Google.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        violation: str = "",
        retry_after: float | None = None,
        reason: str | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.violation = violation
        self.retry_after = retry_after
        self.reason = REASONS.get(code, "") if reason is None else reason
        self.request_id = request_id

    def details(self) -> bytes | None:
        """Return the serialised google.rpc.Status for the trailer `grpc-status-details-bin`; None: the error has no details."""
        found: list[Any] = []
        if self.reason:
            domain = DOMAINS.get(self.reason, "googleapis.com")
            metadata = {"service": "cloudkms.googleapis.com"}
            found.append(error_details_pb2.ErrorInfo(reason=self.reason, domain=domain, metadata=metadata))
        if self.request_id:
            found.append(error_details_pb2.RequestInfo(request_id=self.request_id))
        if self.violation:
            violation = error_details_pb2.PreconditionFailure.Violation(type=self.violation, description=self.message)
            found.append(error_details_pb2.PreconditionFailure(violations=[violation]))
        if self.retry_after is not None:
            delay = Duration()
            delay.FromNanoseconds(round(self.retry_after * 1e9))
            found.append(error_details_pb2.RetryInfo(retry_delay=delay))
        if not found:
            return None
        packed = []
        for detail in found:
            message = AnyMessage()
            message.Pack(detail)
            packed.append(message)
        status = status_pb2.Status(code=self.code.value[0], message=self.message, details=packed)
        return bytes(status.SerializeToString())


def invalid(message: str) -> KmsError:
    """Return an INVALID_ARGUMENT."""
    return KmsError(grpc.StatusCode.INVALID_ARGUMENT, message)


def precondition(message: str, violation: str = "") -> KmsError:
    """Return a FAILED_PRECONDITION."""
    return KmsError(grpc.StatusCode.FAILED_PRECONDITION, message, violation=violation)


def not_found(name: str) -> KmsError:
    """Return a NOT_FOUND."""
    return KmsError(grpc.StatusCode.NOT_FOUND, f"{name} not found.")
