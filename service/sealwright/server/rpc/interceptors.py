"""The boundary of every RPC: a request id, a caller, a deadline, and errors that say neither too little nor too much."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final, cast

import grpc
from google.protobuf.message import DecodeError

from sealwright import metrics
from sealwright.access.identity import LOCAL, caller_of_certificate
from sealwright.audit.writer import AuditWriter
from sealwright.calls import Call
from sealwright.clock import Clock
from sealwright.errors import (
    CallerUnauthenticatedError,
    InternalError,
    RequestInvalidError,
    SealwrightError,
    ShuttingDownError,
    Violation,
)
from sealwright.ids import uuid7
from sealwright.server.rpc.status import grpc_code, to_status, trailers

log = logging.getLogger(__name__)

DEFAULT_TIMEOUT: Final = 10.0
MAX_TIMEOUT: Final = 60.0
"""Seconds that a call may take where its caller sets no deadline, and at the most."""

_OURS: Final = "/sealwright.v1."
_request_id: ContextVar[str] = ContextVar("request_id", default="")

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Callable[[Any, Context], Awaitable[Any]]


class Boundary(grpc.aio.ServerInterceptor):
    """Gives every call a request id and turns every error into a status; what is not ours becomes INTERNAL with that id.

    It also counts the calls under way, since `grpc.aio.Server.stop` does not wait for what runs after an abort, and refuses new
    ones once the service drains, since `stop` cancels calls that the core has accepted but Python has not seen yet.
    """

    def __init__(self) -> None:
        self._under_way: set[asyncio.Task[Any]] = set()
        self.draining = False

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """See grpc.aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None or not handler_call_details.method.startswith(_OURS):
            return handler
        # The request is decoded inside: gRPC answers an exception of a deserialiser with its text.
        return grpc.unary_unary_rpc_method_handler(
            self._bounded(
                cast("Handler", handler.unary_unary), handler.request_deserializer, handler_call_details.method
            ),
            response_serializer=handler.response_serializer,
        )

    async def idle(self) -> None:
        """Return when no call is under way any more."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    def _bounded(self, inner: Handler, decode: Callable[[bytes], Any] | None, method: str) -> Handler:
        async def handle(body: bytes, context: Context) -> Any:
            task = asyncio.current_task()
            if task is not None:
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
            request_id = uuid7()
            _request_id.set(request_id)
            start = time.perf_counter()
            error: SealwrightError
            try:
                if self.draining:
                    raise ShuttingDownError("this replica is shutting down", retry_after=0)  # noqa: TRY301
                answer = await inner(_decoded(body, decode), context)
            except SealwrightError as e:
                error = e
            except asyncio.CancelledError:
                _count(method, "CANCELLED", "", start)
                raise
            except Exception:
                log.exception("request %s: %s failed", request_id, method)
                error = InternalError(f"the request failed; the service's log has the cause under {request_id}")
            else:
                _count(method, "OK", "", start)
                return answer
            _count(method, error.code.value, error.reason, start)
            # The only abort of all: a second one would hide the first behind a UsageError.
            await context.abort(grpc_code(error), error.message, trailers(to_status(error, request_id)))
            raise AssertionError("abort returned")

        return handle


def _count(method: str, code: str, reason: str, start: float) -> None:
    name = method.rpartition("/")[2]
    metrics.RPCS.labels(name, code, reason).inc()
    metrics.RPC_SECONDS.labels(name).observe(time.perf_counter() - start)


def _decoded(body: bytes, decode: Callable[[bytes], Any] | None) -> Any:
    try:
        return decode(body) if decode else body
    except DecodeError:
        raise RequestInvalidError([Violation("", "the request is not a protobuf message of its type")]) from None


class Calls:
    """Makes a `Call` of a gRPC context."""

    def __init__(self, clock: Clock, audit: AuditWriter, *, local: bool) -> None:
        self._clock = clock
        self._audit = audit
        self._local = local

    def open(self, context: Context) -> Call:
        """Return who calls, until when, and under which request id.

        Raises:
            CallerUnauthenticatedError: The connection does not say who calls.
        """
        # None, which the stubs leave out: the caller set no deadline. 0 is one that has passed.
        remaining: float | None = context.time_remaining()
        timeout = DEFAULT_TIMEOUT if remaining is None else min(remaining, MAX_TIMEOUT)
        try:
            caller = self._caller(context)
        except CallerUnauthenticatedError as error:
            details = {
                "request_id": _request_id.get(),
                "peer": context.peer(),
                "outcome": "denied",
                "reason": error.reason,
            }
            self._audit.submit("authenticate", details)
            raise
        return Call(
            caller=caller,
            request_id=_request_id.get(),
            peer=context.peer(),
            end=self._clock.elapsed() + timeout,
        )

    def _caller(self, context: Context) -> str:
        if self._local:
            return LOCAL
        certificates = list(context.auth_context().get("x509_pem_cert", ()))
        if len(certificates) != 1:
            raise CallerUnauthenticatedError("the connection has no client certificate")
        return caller_of_certificate(bytes(certificates[0]))
