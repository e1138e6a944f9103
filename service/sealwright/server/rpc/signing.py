"""SigningService."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sealwright.errors import RequestInvalidError, Violation
from sealwright.jose.claims import ClaimsRequest
from sealwright.server.rpc.interceptors import Calls
from sealwright.server.rpc.names import parse_issuer
from sealwright.signing import SignedToken, Signer, SignRequest
from sealwright.v1 import signing_pb2, signing_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class SigningService(signing_pb2_grpc.SigningServiceServicer):
    """Signs tokens."""

    def __init__(self, signer: Signer, calls: Calls) -> None:
        self._signer = signer
        self._calls = calls

    async def SignJwt(  # noqa: N802 - the name in the proto
        self,
        request: signing_pb2.SignJwtRequest,
        context: Context,
    ) -> signing_pb2.SignJwtResponse:
        """See signing.proto."""
        return _response(await self._signer.sign(self._calls.open(context), _request(request)))


def _request(request: signing_pb2.SignJwtRequest) -> SignRequest:
    violations: list[Violation] = []
    issuer = ""
    try:
        issuer = parse_issuer(request.issuer, "issuer")
    except RequestInvalidError as e:
        violations += e.violations
    lifetime = _lifetime(request.lifetime, violations) if request.HasField("lifetime") else None
    not_before = None
    if request.HasField("not_before"):
        try:
            not_before = request.not_before.ToDatetime(UTC)
        except (ValueError, OverflowError):
            violations.append(Violation("not_before", "is no timestamp"))
    if violations:
        first = violations[0]
        raise RequestInvalidError(f"{first.field}: {first.description}", violations=violations)
    return SignRequest(
        issuer=issuer,
        claims=ClaimsRequest(
            claims_json=request.claims_json or "{}",
            subject=request.subject or None,
            audience=tuple(request.audience),
            lifetime=lifetime,
            not_before=not_before,
        ),
        algorithm=request.algorithm,
        token_type=request.token_type,
    )


def _lifetime(duration: Duration, violations: list[Violation]) -> timedelta | None:
    if duration.nanos % 1000:
        violations.append(Violation("lifetime", "must be whole seconds"))
        return None
    try:
        return timedelta(seconds=duration.seconds, microseconds=duration.nanos // 1000)
    except OverflowError:
        violations.append(Violation("lifetime", "is no duration"))
        return None


def _response(signed: SignedToken) -> signing_pb2.SignJwtResponse:
    return signing_pb2.SignJwtResponse(
        token=signed.token,
        kid=signed.kid,
        algorithm=signed.algorithm,
        issue_time=Timestamp(seconds=signed.claims.issue_time),
        expire_time=Timestamp(seconds=signed.claims.expire_time),
        jwt_id=signed.claims.jwt_id,
    )
