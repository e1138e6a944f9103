"""The boundary of every RPC of ours: authentication, decoding, the decision with its audit record, and errors as statuses."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

import grpc
from google.protobuf.message import DecodeError

from sealwright import metrics
from sealwright.audit.decisions import Audit
from sealwright.audit.records import EVENTS
from sealwright.calls import Arrival
from sealwright.errors import InternalError, RequestInvalidError, SealwrightError, ShuttingDownError, Violation
from sealwright.server.rpc import bounds
from sealwright.server.rpc.admission import Admission, overload
from sealwright.server.rpc.authentication import Authentication
from sealwright.server.rpc.call import Call
from sealwright.server.rpc.receiving import SMALL_MESSAGE, Received, Receiving
from sealwright.server.rpc.status import Prepared, to_status
from sealwright.turns import Turns

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
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]

    def request(self, body: Received) -> Any:
        """Decode a request, and check its bounds.

        Raises:
            RequestInvalidError: The bytes are not a message of the right type, or a field or the whole is too long.
            TokenTooLargeError: The claims are too long for any issuer.
            SealwrightError: The request was not received.
        """
        if isinstance(body, SealwrightError):
            raise body
        try:
            request: Any = self.decode(body)
        except DecodeError:
            violation = Violation("", "the request is not a protobuf message of its type")
            raise RequestInvalidError([violation]) from None
        bounds.check(request)
        if len(body) > SMALL_MESSAGE and self.name not in _LARGE:
            problem = f"the request has {len(body)} bytes; at most {SMALL_MESSAGE} are allowed"
            raise RequestInvalidError([Violation("", problem)])
        return request


class Boundary:
    """Runs every call of ours, and turns every error into a status. An unexpected error becomes INTERNAL with the request id.

    Servicers are added to it as to a server of gRPC. It refuses new calls once the service drains.

    Attributes:
        methods: What begins a call, by the path of its method.
    """

    def __init__(self, authentication: Authentication, audit: Audit, turns: Turns) -> None:
        self.receiving = Receiving()
        self.admission = Admission(turns)
        self.methods: dict[str, Callable[[Call], None]] = {}
        self.draining = False
        self._overloaded = Prepared(overload())
        self._refused: Counter[tuple[str, str]] = Counter()
        self._authentication = authentication
        self._audit = audit
        self._under_way: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """See grpc.aio.Server. Generated code adds the same methods by `add_registered_method_handlers`."""

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """See grpc.aio.Server."""
        for name, handler in method_handlers.items():
            decode, encode = handler.request_deserializer, handler.response_serializer
            method = _Method(name, cast("Work", handler.unary_unary), cast("Any", decode), cast("Any", encode))
            self.methods[f"/{service_name}/{name}"] = partial(self._begin, method)

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

    def _begin(self, method: _Method, call: Call) -> None:
        """Refuse a call at once, or answer it in a task."""
        start = time.perf_counter()
        arrival = self._authentication.arrival(method.name, call)
        place: str | None = None
        if method.name in _SHEDDABLE and call.complete and not self.draining:
            place = self.admission.admit(lambda: self._name(call))
            if place is None:
                self._shed(method, arrival, call, start)
                return
        self._spawn(self._answer(method, arrival, call, None, start), call, place)

    def _shed(self, method: _Method, arrival: Arrival, call: Call, start: float) -> None:
        """Refuse a call in an overload. There are thousands in a second, so most of them have no record of their own."""
        refusal = self._overloaded
        if not self._audit.omits(self._name(call)):
            self._spawn(self._answer(method, arrival, call, refusal.error, start), call)
            return
        self._note(arrival.method, refusal.error, start)
        call.fail(refusal.code, refusal.message, refusal.details(arrival.request_id))

    def _spawn(self, answer: Coroutine[Any, Any, None], call: Call, place: str | None = None) -> None:
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        task = loop.create_task(answer)
        self._watch(task, place)
        call.run(task, self._authentication.longest(call))

    async def _answer(
        self, method: _Method, arrival: Arrival, call: Call, refusal: SealwrightError | None, start: float
    ) -> None:
        error: SealwrightError
        body: Received = b""
        try:
            if not self.draining:  # else it is refused, whatever it is
                found = refusal or call.whole(SMALL_MESSAGE)
                body = await self._receive(method, call) if found is None else found
            answer = method.encode(await self._run(method, arrival, body, call))
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
            call.answer(answer)
            return
        finally:
            self.receiving.release(body)
        self._note(method.name, error, start)
        status = to_status(error, arrival.request_id)
        call.fail(status.code, status.message, status.SerializeToString())

    async def _receive(self, method: _Method, call: Call) -> Received:
        """Return a request that did not come whole with its call. It is admitted when it has come: until then it costs nothing."""
        admits = method.name in _SHEDDABLE and not call.complete
        body = await self.receiving.receive(call, _task())
        if admits:
            place = self.admission.admit(lambda: self._name(call))
            if place is None:
                self.receiving.release(body)
                return self._overloaded.error
            _task().add_done_callback(lambda _: self.admission.leave(place))
        return body

    async def _run(self, method: _Method, arrival: Arrival, body: Received, call: Call) -> Any:
        if method.name in _PUBLIC:
            self._refuse_if_draining()
            return await method.work(method.request(body), None)
        if method.name in _UNSTOPPABLE:
            return await self._unstoppable(method, arrival, body, call)
        return await self._decided(method, arrival, body, call)

    def _note(self, method: str, error: SealwrightError, start: float) -> None:
        _count(method, error.code.value, error.reason, start)
        self._refused[method, error.reason] += 1

    def _name(self, call: Call) -> str:
        try:
            return self._authentication.caller(call.peer)
        except SealwrightError:
            return ""  # All who cannot be named share what one caller gets.

    def _watch(self, task: asyncio.Task[Any], place: str | None = None) -> None:
        """Remember a task until it has ended, and then give its place back, if it has one."""
        self._under_way.add(task)
        task.add_done_callback(self._ended if place is None else partial(self._ended, place=place))

    def _ended(self, task: asyncio.Task[Any], place: str | None = None) -> None:
        self._under_way.discard(task)
        if place is not None:
            self.admission.leave(place)
        if not task.cancelled():
            task.exception()  # Marks it as seen. `_answer` has logged it.

    async def _unstoppable(self, method: _Method, arrival: Arrival, body: Received, call: Call) -> Any:
        task = asyncio.create_task(self._decided(method, arrival, body, call))
        self._watch(task)
        return await asyncio.shield(task)

    async def _decided(self, method: _Method, arrival: Arrival, body: Received, call: Call) -> Any:
        """Run a call inside its decision.

        The order is the same for every call: who calls, whether the request is within bounds, whether the caller may make it (the
        work asks first of all), and only then whether it is valid.
        """
        async with self._audit.decision(arrival, EVENTS[method.name]) as decision:
            self._refuse_if_draining()
            decision.identify(self._authentication.caller(call.peer))
            return await method.work(method.request(body), decision)

    def _refuse_if_draining(self) -> None:
        if self.draining:
            raise ShuttingDownError("this replica is shutting down", retry_after=0)


def _task() -> asyncio.Task[Any]:
    return cast("asyncio.Task[Any]", asyncio.current_task())


def _count(name: str, code: str, reason: str, start: float) -> None:
    metrics.tally(metrics.RPCS, name, code, reason).add()
    metrics.distribution(metrics.RPC_SECONDS, name).add(time.perf_counter() - start)
