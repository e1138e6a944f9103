"""SigningService."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import UTC, timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sealwright.audit.decisions import Decision
from sealwright.errors import InternalError, RequestInvalidError, SealwrightError, Violation
from sealwright.ids import uuid7
from sealwright.jose.claims import ClaimsRequest
from sealwright.server.rpc import bounds
from sealwright.server.rpc.batches import WIDTH, Batches
from sealwright.server.rpc.names import parse_issuer
from sealwright.server.rpc.status import to_status
from sealwright.signing import SignedToken, Signer, SignRequest
from sealwright.turns import Slices
from sealwright.v1 import signing_pb2, signing_pb2_grpc
from sealwright.verifying import Verifier, VerifyRequest

log = logging.getLogger(__name__)

MAX_BATCH: Final = 256
MAX_BATCH_BYTES: Final = 2 * 1024 * 1024
_NANOS: Final = 10**9


class SigningService(signing_pb2_grpc.SigningServiceServicer):
    """Signs and verifies tokens."""

    def __init__(self, signer: Signer, verifier: Verifier) -> None:
        self._signer = signer
        self._verifier = verifier
        self._slices = Slices()
        self._batches = Batches()

    async def SignJwt(  # noqa: N802 - the name in the proto
        self, request: signing_pb2.SignJwtRequest, decision: Decision
    ) -> signing_pb2.SignJwtResponse:
        """See signing.proto."""
        response = signing_pb2.SignJwtResponse()
        _fill(response, await self._signer.sign(decision, _request(request)))
        return response

    async def BatchSignJwt(  # noqa: N802 - the name in the proto
        self, request: signing_pb2.BatchSignJwtRequest, decision: Decision
    ) -> signing_pb2.BatchSignJwtResponse:
        """See signing.proto."""
        count = len(request.requests)
        decision.note(requests=count)
        if not 1 <= count <= MAX_BATCH or request.ByteSize() > MAX_BATCH_BYTES:
            problem = f"must be 1 to {MAX_BATCH} requests with at most {MAX_BATCH_BYTES} bytes in all"
            raise RequestInvalidError([Violation("requests", problem)])
        caller = decision.call.caller
        with self._batches.under_way(caller, count) as places:
            response = signing_pb2.BatchSignJwtResponse()
            left = iter([(single, response.results.add()) for single in request.requests])

            async def work() -> None:
                for single, result in left:
                    async with places:
                        await self._slices.take(caller)
                        decision.delegate()
                        await self._sign_into(result, decision.part(uuid7()), single)

            async with asyncio.TaskGroup() as group:
                for _ in range(min(count, WIDTH)):
                    group.create_task(work())
        return response

    async def _sign_into(
        self, result: signing_pb2.BatchSignJwtResult, decision: Decision, request: signing_pb2.SignJwtRequest
    ) -> None:
        request_id = decision.call.request_id
        error: SealwrightError
        try:
            async with decision:
                bounds.check(request)
                _fill(result.response, await self._signer.sign(decision, _request(request)))
                return
        except SealwrightError as e:
            error = e
        except Exception:
            log.exception("request %s of a batch failed", request_id)
            error = InternalError(f"the request failed; the service's log has the cause under {request_id}")
        result.error.CopyFrom(to_status(error, request_id))

    async def VerifyJwt(  # noqa: N802 - the name in the proto
        self, request: signing_pb2.VerifyJwtRequest, decision: Decision
    ) -> signing_pb2.VerifyJwtResponse:
        """See signing.proto."""
        verified = self._verifier.verify(
            decision,
            VerifyRequest(
                token=request.token,
                issuer=parse_issuer(request.issuer, "issuer"),
                audience=request.audience or None,
                skip_audience=request.skip_audience_check,
            ),
        )
        return signing_pb2.VerifyJwtResponse(
            claims_json=verified.claims_json,
            kid=verified.kid,
            expire_time=Timestamp(seconds=verified.expire_time),
        )


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
            violations.append(Violation("not_before", "must be a valid timestamp"))
    if violations:
        raise RequestInvalidError(violations)
    return SignRequest(
        issuer=issuer,
        claims=ClaimsRequest(
            claims_json=request.claims_json or "{}",
            subject=request.subject or None,
            audience=tuple(request.audience),
            lifetime=lifetime,
            not_before=not_before,
        ),
        algorithm=request.algorithm or None,
        token_type=request.token_type or None,
    )


def _lifetime(duration: Duration, violations: list[Violation]) -> timedelta | None:
    if duration.nanos % 1000:
        violations.append(Violation("lifetime", "must be whole seconds"))
        return None
    if abs(duration.nanos) < _NANOS and duration.seconds * duration.nanos >= 0:
        with contextlib.suppress(OverflowError):
            return timedelta(seconds=duration.seconds, microseconds=duration.nanos // 1000)
    violations.append(Violation("lifetime", "must be a valid duration"))
    return None


def _fill(response: signing_pb2.SignJwtResponse, signed: SignedToken) -> None:
    claims = signed.claims
    response.token = signed.token
    response.kid = signed.kid
    response.algorithm = signed.algorithm
    response.issue_time.seconds = claims.issue_time
    response.expire_time.seconds = claims.expire_time
    response.jwt_id = claims.jwt_id
