"""AWS KMS over HTTP: authentication, dispatch, faults, and the answers in JSON 1.1."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import time
import uuid
from collections.abc import Coroutine
from typing import Any, Final

from aiohttp import web

from sealwright_testing.emulators.calls import GONE, OK, PENDING

from . import sigv4
from .backend import AwsBackend
from .calls import CallRecord, describe
from .errors import AwsError
from .faults import Fault, FaultKind, Plan, plan_for
from .operations import OPERATIONS
from .operations.call import Answer, Call
from .params import Params
from .sts import IDENTITY, identity, is_sts, sts_error

CONTENT_TYPE: Final = "application/x-amz-json-1.1"
_TARGET_PREFIX: Final = "TrentService."


class KmsHandler:
    """Answers `POST /`, the only route of AWS KMS."""

    def __init__(self, backend: AwsBackend) -> None:
        self._backend = backend
        self._released = asyncio.Event()
        self._working: set[asyncio.Future[Answer]] = set()

    def release(self) -> None:
        """End the requests that hang, and close their connections."""
        self._released.set()
        self._released = asyncio.Event()

    async def finish(self) -> None:
        """Wait for the operations whose clients have disconnected."""
        await asyncio.gather(*self._working, return_exceptions=True)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        body = await request.read()
        if is_sts(request, body):
            return await self._identify(request, body)
        operation = _operation(request)
        if operation is None:
            return _error(AwsError("UnknownOperationException"))
        record = describe(operation, body, time.time())
        key = None if record.reference is None else self._backend.store.find(record.reference)
        record.key_id = None if key is None else key.key_id
        self._backend.log.add(record)
        try:
            self._authenticate(request, body)
            return await self._answer(request, body, record)
        except AwsError as error:
            record.outcome = error.type
            return _error(error)
        except asyncio.CancelledError:
            record.outcome = GONE if record.outcome == PENDING else record.outcome
            raise

    async def _identify(self, request: web.Request, body: bytes) -> web.StreamResponse:
        """Answer GetCallerIdentity of AWS STS, which shares the endpoint."""
        record = describe(IDENTITY, b"", time.time())
        self._backend.log.add(record)
        try:
            self._authenticate(request, body, "sts")
            plan = plan_for(self._backend.book, record)
            await asyncio.sleep(plan.delay)
            if plan.failure is not None:
                return await self._fail(plan.failure, request, record)
        except AwsError as error:
            record.outcome = error.type
            return sts_error(error)
        record.outcome = OK
        return identity(self._backend.store.account)

    def _authenticate(self, request: web.Request, body: bytes, service: str = sigv4.SERVICE) -> None:
        signed = sigv4.SignedRequest(
            method=request.method,
            path=request.rel_url.raw_path,
            query=request.rel_url.raw_query_string,
            headers=tuple(request.headers.items()),
            body=body,
        )
        sigv4.verify(
            signed,
            credentials=self._backend.credentials,
            region=self._backend.store.region,
            now=time.time(),
            service=service,
        )

    async def _answer(self, request: web.Request, body: bytes, record: CallRecord) -> web.StreamResponse:
        plan = plan_for(self._backend.book, record)
        failure = plan.failure
        malformed = failure is not None and failure.kind is FaultKind.MALFORMED_JSON
        await asyncio.sleep(plan.delay)
        if failure is not None and not malformed and not failure.after:
            return await self._fail(failure, request, record)
        answer = await self._unstoppable(self._execute(body, record.operation, plan))
        await asyncio.sleep(plan.late)
        if failure is not None and not malformed:
            return await self._fail(failure, request, record)
        text = json.dumps(answer, default=_base64)
        if failure is not None:
            record.outcome = failure.kind
            return _response(200, text[: len(text) // 2])
        record.outcome = OK
        # Operations without an output shape answer with an empty body.
        return _response(200, text if answer else "")

    async def _unstoppable(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        # A real KMS creates the key even if the client has disconnected.
        task = asyncio.ensure_future(work)
        self._working.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Future[Answer]) -> None:
        self._working.discard(task)
        if not task.cancelled():
            task.exception()  # Otherwise asyncio would complain if nobody reads it.

    async def _execute(self, body: bytes, operation: str, plan: Plan) -> Answer:
        handler = OPERATIONS.get(operation)
        if handler is None:
            raise AwsError("UnknownOperationException")
        call = Call(
            operation=operation,
            params=Params.parse(body),
            store=self._backend.store,
            strangers=self._backend.strangers,
            tampering=plan.tampering,
            hide=plan.hide,
        )
        return await handler(call)

    async def _fail(self, fault: Fault, request: web.Request, record: CallRecord) -> web.StreamResponse:
        if fault.kind not in {FaultKind.HANG, FaultKind.DROP_CONNECTION}:
            raise fault.error()
        record.outcome = fault.kind
        if fault.kind is FaultKind.HANG:
            await self._released.wait()
        if request.transport is not None:
            request.transport.abort()
        return web.Response()


def _operation(request: web.Request) -> str | None:
    target = request.headers.get("X-Amz-Target", "")
    if request.path != "/" or request.method != "POST" or not target.startswith(_TARGET_PREFIX):
        return None
    return target.removeprefix(_TARGET_PREFIX)


def _base64(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    raise TypeError(f"{type(value).__name__} cannot be part of an answer")


def _response(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        body=text.encode(),
        headers={"x-amzn-RequestId": str(uuid.uuid4()), "Content-Type": CONTENT_TYPE, **(headers or {})},
    )


def _error(error: AwsError) -> web.Response:
    body: dict[str, Any] = {"__type": error.type}
    if error.message:
        body["message"] = error.message
    headers = {} if error.retry_after is None else {"Retry-After": str(math.ceil(error.retry_after))}
    return _response(error.status, json.dumps(body), headers)
