"""KeyManagementService over gRPC: authentication, quotas, faults and dispatch."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from sealwright_testing.emulators.calls import GONE, OK, CallLog
from sealwright_testing.emulators.faultbook import FaultBook

from .calls import CallRecord
from .errors import KmsError, invalid
from .faults import Fault, FaultKind, Plan, plan_for
from .operations import OPERATIONS
from .operations.call import Call, Strangers
from .store import KeyStore

SERVICE: Final = "/google.cloud.kms.v1.KeyManagementService/"
_BEARER: Final = "Bearer "
_NO_METHOD: Final = KmsError(grpc.StatusCode.UNIMPLEMENTED, "The emulator has no such method.")


class KmsHandler(grpc.GenericRpcHandler):
    """Answers the methods of KeyManagementService.

    Attributes:
        authorize: Whether requests need a bearer token.
        tokens: The tokens that are accepted; None: any.
        quotas: Requests per second that each quota permits: `read`, `write` or `crypto`.
    """

    def __init__(
        self, store: KeyStore, book: FaultBook[Fault], log: CallLog[CallRecord], drop: Callable[[], None]
    ) -> None:
        self._store = store
        self._book = book
        self._log = log
        self._drop = drop
        self._strangers = Strangers()
        self._lock = threading.Lock()
        self._waiting: set[threading.Event] = set()
        self._used: Counter[tuple[str, int]] = Counter()
        self.authorize = False
        self.tokens: frozenset[str] | None = None
        self.quotas: dict[str, int] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """See `grpc.GenericRpcHandler.service`."""
        path = handler_call_details.method
        if not path.startswith(SERVICE):
            return None
        operation = path.removeprefix(SERVICE)
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self._handle(operation, request, context))

    def release(self) -> None:
        """End the calls that hang or are delayed."""
        with self._lock:
            waiting = list(self._waiting)
        for event in waiting:
            event.set()

    def _handle(self, operation: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        metadata = {k: v for k, v in context.invocation_metadata() if k != "authorization"}
        token = dict(context.invocation_metadata()).get("authorization", "")
        record = CallRecord(time=time.time(), operation=operation, metadata=metadata, authorized=bool(token))
        self._log.add(record)
        try:
            answer = self._answer(operation, request, str(token), context, record)
        except KmsError as error:
            record.outcome = error.code.name
            details = error.details()
            if details is not None:
                context.set_trailing_metadata((("grpc-status-details-bin", details),))
            context.abort(error.code, error.message)
        record.outcome = OK if context.is_active() else GONE
        return answer

    def _answer(
        self, operation: str, raw: bytes, token: str, context: grpc.ServicerContext, record: CallRecord
    ) -> bytes:
        method = OPERATIONS.get(operation)
        if method is None:
            raise _NO_METHOD
        try:
            request = method.request.FromString(raw)
        except DecodeError:
            raise invalid("The request cannot be parsed.") from None
        record.name = method.name(request)
        _note(record, request)
        self._authenticate(token)
        self._count(method.quota)
        plan = plan_for(self._book, operation, record.name)
        self._wait(plan.delay, context)
        failure = plan.failure
        if failure is not None and failure.kind is not FaultKind.MALFORMED and not failure.after:
            self._fail(plan, context)
        call = Call(request=request, store=self._store, plan=plan, strangers=self._strangers)
        # Signatures take time and change nothing.
        with nullcontext() if method.quota == "crypto" else self._store.lock:
            answer: bytes = method.handler(call).SerializeToString()
        self._wait(plan.late, context)
        if failure is not None and failure.kind is FaultKind.MALFORMED:
            return answer[: len(answer) // 2]
        if failure is not None:
            self._fail(plan, context)
        return answer

    def _authenticate(self, token: str) -> None:
        if not self.authorize:
            return
        known = token.startswith(_BEARER) and (self.tokens is None or token.removeprefix(_BEARER) in self.tokens)
        if not known:
            raise KmsError(
                grpc.StatusCode.UNAUTHENTICATED,
                "Request had invalid authentication credentials. Expected OAuth 2 access token.",
            )

    def _count(self, quota: str) -> None:
        limit = self.quotas.get(quota)
        if limit is None:
            return
        second = (quota, int(time.time()))
        with self._lock:
            self._used[second] += 1
            used = self._used[second]
        if used > limit:
            raise KmsError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"Quota exceeded for quota metric '{quota} requests'.")

    def _fail(self, plan: Plan, context: grpc.ServicerContext) -> None:
        failure = plan.failure
        if failure is None:
            return
        if failure.kind is FaultKind.HANG:
            self._wait(float("inf"), context)
        if failure.kind is FaultKind.DROP_CONNECTION:
            self._drop()
            # The call ends with the connection, not with an answer.
            self._wait(float("inf"), context)
        raise failure.error()

    def _wait(self, seconds: float, context: grpc.ServicerContext) -> None:
        """Wait, but not longer than the client, and not after `release`."""
        if not seconds:
            return
        event = threading.Event()
        with self._lock:
            self._waiting.add(event)
        try:
            if context.add_callback(event.set):
                event.wait(None if seconds == float("inf") else seconds)
        finally:
            with self._lock:
                self._waiting.discard(event)


def _note(record: CallRecord, request: Any) -> None:
    """Note what a request to sign has. The message itself is not kept."""
    fields = request.DESCRIPTOR.fields_by_name
    if "data" in fields and request.data:
        record.data_length = len(request.data)
        record.has_crc = request.HasField("data_crc32c")
    if "digest" in fields and request.HasField("digest"):
        record.digest = request.digest.WhichOneof("digest") or ""
        record.has_crc = request.HasField("digest_crc32c")
