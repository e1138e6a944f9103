"""Key Vault over HTTPS: challenge authentication, dispatch, faults, and the answers in JSON."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import time
import uuid
from collections.abc import Coroutine, Mapping
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from sealwright_testing.emulators.calls import GONE, OK, PENDING

from . import signing
from .backend import AzureBackend
from .calls import CHALLENGE, CallRecord
from .errors import AzureError
from .faults import Fault, FaultKind, Plan, plan_for
from .operations import ROUTES, Answer, Call, Handler

API_VERSIONS: Final = frozenset({"7.0", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6", "2025-07-01"})
_CLAIMS: Final = base64.b64encode(b'{"access_token":{"nbf":{"essential":true}}}').decode("ascii")


class VaultHandler:
    """Answers the requests of clients."""

    def __init__(self, backend: AzureBackend) -> None:
        self._backend = backend
        self._released = asyncio.Event()
        self._working: set[asyncio.Future[Answer]] = set()

    def routes(self) -> list[web.RouteDef]:
        """Return the routes: the keys API, and the endpoints that issue tokens."""
        identity = self._backend.identity
        tokens = [
            ("POST", "/{tenant}/oauth2/v2.0/token", identity.token, "Token"),
            ("GET", "/metadata/identity/oauth2/token", identity.metadata, "ManagedIdentity"),
            ("GET", "/msi/token", identity.app_service, "ManagedIdentity"),
        ]
        routes = [web.route(method, path, self._token(name, answer)) for method, path, answer, name in tokens]
        for (method, path), (name, handler) in ROUTES.items():
            routes.append(web.route(method, path, self._key(name, handler)))
        return routes

    def release(self) -> None:
        """Let go of the requests that hang; their connections close."""
        self._released.set()
        self._released = asyncio.Event()

    async def finish(self) -> None:
        """Wait for the operations whose clients have left."""
        await asyncio.gather(*self._working, return_exceptions=True)

    def _token(self, operation: str, answer: Any) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            record = CallRecord(time=time.time(), operation=operation)
            self._backend.log.add(record)
            plan = plan_for(self._backend.book, operation, None)
            await asyncio.sleep(plan.delay)
            if plan.failure is not None:
                try:
                    return await self._fail(plan.failure, request, record)
                except AzureError as error:
                    record.outcome = error.code
                    return _refused(error)
            record.outcome = OK
            response: web.StreamResponse = await answer(request)
            return response

        return handle

    def _key(self, operation: str, handler: Handler) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            record = _describe(operation, request, body)
            self._backend.log.add(record)
            try:
                if not self._authenticated(request):
                    record.outcome = CHALLENGE
                    return self._challenge(request)
                return await self._answer(request, body, handler, record)
            except AzureError as error:
                record.outcome = error.code
                return _refused(error)
            except asyncio.CancelledError:
                record.outcome = GONE if record.outcome == PENDING else record.outcome
                raise

        return handle

    def _authenticated(self, request: web.Request) -> bool:
        audience = self._backend.resource(request.host)
        return self._backend.identity.accepts(request.headers.get("Authorization", ""), audience)

    def _challenge(self, request: web.Request, claims: str | None = None) -> web.Response:
        authority = f"{_base(request)}/{self._backend.identity.tenant}"
        challenge = f'Bearer authorization="{authority}", resource="{self._backend.resource(request.host)}"'
        if claims is not None:
            challenge = f'Bearer authorization="{authority}", error="insufficient_claims", claims="{claims}"'
        refusal = AzureError(
            "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token.", HTTPStatus.UNAUTHORIZED
        )
        return _refused(refusal, {"WWW-Authenticate": challenge})

    async def _answer(
        self, request: web.Request, body: bytes, handler: Handler, record: CallRecord
    ) -> web.StreamResponse:
        plan = plan_for(self._backend.book, record.operation, record.name)
        failure = plan.failure
        malformed = failure is not None and failure.kind is FaultKind.MALFORMED_JSON
        await asyncio.sleep(plan.delay)
        if failure is not None and not malformed and not failure.after:
            return await self._fail(failure, request, record)
        version = request.query.get("api-version")
        if version not in API_VERSIONS:
            raise AzureError("BadParameter", f"api-version {version} is not supported.")
        answer = await self._unstoppable(handler(self._call(request, body, plan)))
        await asyncio.sleep(plan.late)
        if failure is not None and not malformed:
            return await self._fail(failure, request, record)
        text = json.dumps(answer)
        if failure is not None:
            record.outcome = failure.kind
            return _response(HTTPStatus.OK, text[: len(text) // 2])
        record.outcome = OK
        return _response(HTTPStatus.OK, text) if answer else _response(HTTPStatus.NO_CONTENT, "")

    def _call(self, request: web.Request, body: bytes, plan: Plan) -> Call:
        return Call(
            vault=self._backend.vault,
            base=_base(request),
            name=request.match_info.get("name", ""),
            version=request.match_info.get("version", ""),
            query=request.query,
            body=body,
            plan=plan,
        )

    async def _unstoppable(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        # The real service makes the key, whether or not its client still waits for the answer.
        task = asyncio.ensure_future(work)
        self._working.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Future[Answer]) -> None:
        self._working.discard(task)
        if not task.cancelled():
            task.exception()  # Nobody may be left to look at it, and asyncio would complain.

    async def _fail(self, fault: Fault, request: web.Request, record: CallRecord) -> web.StreamResponse:
        if fault.kind in {FaultKind.CHALLENGE, FaultKind.CLAIMS}:
            record.outcome = CHALLENGE
            return self._challenge(request, _CLAIMS if fault.kind is FaultKind.CLAIMS else None)
        if fault.kind not in {FaultKind.HANG, FaultKind.DROP_CONNECTION}:
            raise fault.error()
        record.outcome = fault.kind
        if fault.kind is FaultKind.HANG:
            await self._released.wait()
        if request.transport is not None:
            request.transport.abort()
        return web.Response()


def _base(request: web.Request) -> str:
    return f"https://{request.host}"


def _describe(operation: str, request: web.Request, body: bytes) -> CallRecord:
    record = CallRecord(
        time=time.time(),
        operation=operation,
        name=request.match_info.get("name"),
        version=request.match_info.get("version") or None,
    )
    if operation in {"Sign", "Verify"}:
        try:
            fields = json.loads(body or b"{}")
            record.algorithm = str(fields["alg"])
            record.value_length = len(signing.decode(fields["value"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            return record
    return record


def _response(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        body=text.encode(),
        headers={
            "Content-Type": "application/json; charset=utf-8",
            "x-ms-request-id": str(uuid.uuid4()),
            "x-ms-keyvault-service-version": "1.9.0.0",
            **(headers or {}),
        },
    )


def _refused(error: AzureError, headers: Mapping[str, str] | None = None) -> web.Response:
    more = {} if error.retry_after is None else {"Retry-After": str(math.ceil(error.retry_after))}
    return _response(error.status, json.dumps(error.body()), {**more, **(headers or {})})
