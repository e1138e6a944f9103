"""The boundary of every RPC of ours: authentication, decoding, the decision with its audit record, and errors as statuses."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import grpc
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from sealwright import metrics
from sealwright.audit.decisions import Audit
from sealwright.audit.records import EVENTS
from sealwright.calls import Arrival
from sealwright.errors import InternalError, RequestInvalidError, SealwrightError, ShuttingDownError, Violation
from sealwright.server.rpc import bounds
from sealwright.server.rpc.admission import Admission, overload
from sealwright.server.rpc.authentication import Authentication, Context
from sealwright.server.rpc.receiving import SMALL_MESSAGE, Received, Receiving
from sealwright.server.rpc.status import Prepared, to_status

log = logging.getLogger(__name__)

_PUBLIC: Final = frozenset({"GetJwks"})
"""Anybody may call these, and they are not recorded."""
_REPORT_SECONDS: Final = 60.0
_LARGE: Final = frozenset({"BatchSignJwt"})
"""Their requests may have more bytes than `SMALL_MESSAGE`."""
_SHEDDABLE: Final = frozenset({"SignJwt", "BatchSignJwt"})
"""These are refused in an overload. A JWK Set costs no more than a refusal, and a key must be revocable at any time."""
_UNSTOPPABLE: Final = frozenset({"RotateKeys", "RevokeKeys"})
"""These run to their end even if the caller leaves, because half a revocation is worse than none."""

Work = Callable[[Any, Any], Awaitable[Any]]
"""A method of a servicer: its request and, except for public methods, its `Decision` in; its response out."""


@dataclass(frozen=True, slots=True)
class _Method:
    name: str
    work: Work
    decode: Callable[[bytes], Any] | None

    def request(self, body: Received) -> Any:
        """Decode a request here and not in gRPC, which answers with the text of the exception, and check its bounds.

        Raises:
            RequestInvalidError: The bytes are not a message of the right type, or a field or the whole is too long.
            TokenTooLargeError: The claims are too long for any issuer.
            SealwrightError: The request was not received.
        """
        if isinstance(body, SealwrightError):
            raise body
        try:
            request: Any = self.decode(body) if self.decode else body
        except DecodeError:
            violation = Violation("", "the request is not a protobuf message of its type")
            raise RequestInvalidError([violation]) from None
        bounds.check(request)
        if len(body) > SMALL_MESSAGE and self.name not in _LARGE:
            problem = f"the request has {len(body)} bytes; at most {SMALL_MESSAGE} are allowed"
            raise RequestInvalidError([Violation("", problem)])
        return request


class Boundary(grpc.GenericRpcHandler):
    """Runs every call of ours, and turns every error into a status. An unexpected error becomes INTERNAL with the request id.

    The boundary also counts the calls under way, because `grpc.aio.Server.stop` does not wait for code that runs after an abort.
    It refuses new calls once the service drains, because `stop` cancels calls that the core has accepted but Python has not seen.

    Servicers are added to it as to a server, and it is a handler of the server itself, since grpc.aio runs each interceptor in a
    coroutine.
    """

    def __init__(self, authentication: Authentication, audit: Audit) -> None:
        self.receiving = Receiving()
        self.admission = Admission()
        self._overloaded = Prepared(overload())
        self._refused: Counter[tuple[str, str]] = Counter()
        self._authentication = authentication
        self._audit = audit
        self._under_way: set[asyncio.Task[Any]] = set()
        self.handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self.draining = False

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """See grpc.aio.Server. Generated code adds the same methods by `add_registered_method_handlers`."""

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """See grpc.aio.Server."""
        for name, handler in method_handlers.items():
            method = _Method(name, cast("Work", handler.unary_unary), handler.request_deserializer)
            # On the wire it is the same as unary, but it lets us decide when the request is received.
            self.handlers[f"/{service_name}/{name}"] = grpc.stream_unary_rpc_method_handler(
                self._handler(method), response_serializer=handler.response_serializer
            )

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """See grpc.GenericRpcHandler."""
        return self.handlers.get(handler_call_details.method)

    def report(self) -> None:
        """Log how many calls failed since the last report, and why."""
        if self._refused:
            counts = ", ".join(f"{n} {method} {reason}" for (method, reason), n in sorted(self._refused.items()))
            log.info("calls that were refused or failed in the last minute: %s", counts)
            self._refused.clear()

    async def run(self) -> None:
        """Report every minute."""
        while True:
            await asyncio.sleep(_REPORT_SECONDS)
            self.report()

    async def idle(self) -> None:
        """Return when no call is under way any longer."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    def _handler(self, method: _Method) -> Callable[[Any, Context], Awaitable[Any]]:
        run = self._public if method.name in _PUBLIC else self._decided
        if method.name in _UNSTOPPABLE:
            run = self._unstoppable
        sheddable = method.name in _SHEDDABLE

        async def handle(_messages: Any, context: Context) -> Any:
            task = cast("asyncio.Task[Any]", asyncio.current_task())
            self._watch(task)
            start = time.perf_counter()
            arrival = self._authentication.arrival(method.name, context)
            refusal = self._shed(arrival, context) if sheddable and not self.draining else None
            if refusal is not None and self._audit.omits(self._name(context)):
                await self._abort_quickly(arrival, context, start)
            error: SealwrightError
            body: Received = b""
            try:
                if not self.draining:  # else it is refused, whatever it is
                    body = refusal or await self.receiving.receive(context, arrival.peer, task)
                answer = await run(method, arrival, body, context)
            except SealwrightError as e:
                error = e
            except asyncio.CancelledError:
                _count(method.name, "CANCELLED", "", start)
                raise
            except Exception:
                log.exception("request %s: %s failed", arrival.request_id, method.name)
                error = InternalError(f"the request failed; the service's log has the cause under {arrival.request_id}")
            else:
                _count(method.name, "OK", "", start)
                return answer
            finally:
                self.receiving.release(body)
            self._note(method.name, error, start)
            # There is exactly one abort: a second one would hide the first behind a UsageError.
            status = rpc_status.to_status(to_status(error, arrival.request_id))
            await context.abort(status.code, status.details, status.trailing_metadata)
            raise AssertionError("abort returned")

        return handle

    def _shed(self, arrival: Arrival, context: Context) -> SealwrightError | None:
        if arrival.left is not None:
            self.admission.note(arrival.peer, arrival.method, arrival.left)
        return self.admission.refusal(lambda: self._name(context))

    async def _abort_quickly(self, arrival: Arrival, context: Context, start: float) -> None:
        """Refuse a call in an overload that has no record of its own. There are thousands in a second."""
        refusal = self._overloaded
        self._note(arrival.method, refusal.error, start)
        await context.abort(refusal.code, refusal.details, refusal.trailing_metadata(arrival.request_id))

    def _note(self, method: str, error: SealwrightError, start: float) -> None:
        _count(method, error.code.value, error.reason, start)
        self._refused[method, error.reason] += 1

    def _name(self, context: Context) -> str:
        try:
            return self._authentication.caller(context)
        except SealwrightError:
            return ""  # All who cannot be named share what one caller gets.

    def _watch(self, task: asyncio.Task[Any]) -> None:
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _unstoppable(self, method: _Method, arrival: Arrival, body: Received, context: Context) -> Any:
        task = asyncio.create_task(self._decided(method, arrival, body, context))
        self._watch(task)
        task.add_done_callback(_retrieve)
        return await asyncio.shield(task)

    async def _public(self, method: _Method, _arrival: Arrival, body: Received, context: Context) -> Any:
        self._refuse_if_draining()
        return await method.work(method.request(body), context)

    async def _decided(self, method: _Method, arrival: Arrival, body: Received, context: Context) -> Any:
        """Run a call inside its decision.

        The order is the same for every call: who calls, whether the request is within bounds, whether the caller may make it (the
        work asks first of all), and only then whether it is valid.
        """
        async with self._audit.decision(arrival, EVENTS[method.name]) as decision:
            self._refuse_if_draining()
            decision.identify(self._authentication.caller(context))
            return await method.work(method.request(body), decision)

    def _refuse_if_draining(self) -> None:
        if self.draining:
            raise ShuttingDownError("this replica is shutting down", retry_after=0)


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Mark an exception as seen, in case the caller has left and nobody waits for the task."""
    if not task.cancelled():
        task.exception()


def _count(name: str, code: str, reason: str, start: float) -> None:
    metrics.tally(metrics.RPCS, name, code, reason).add()
    metrics.distribution(metrics.RPC_SECONDS, name).add(time.perf_counter() - start)
