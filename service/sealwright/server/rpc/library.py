"""The services that come with gRPC's own packages: health and reflection. They know no caller and have no audit record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any, Final, NoReturn

import grpc

from sealwright.server.rpc.call import Call, UnreadableMessageError

MAX_REQUEST: Final = 4096
"""Most bytes of their requests."""
_SECONDS: Final = 10.0
"""How long a call may take, or until its first request has come."""


class _EndedError(Exception):
    """The servicer has ended its call with an error."""


class _Context:
    """What the servicers use of `grpc.aio.ServicerContext`."""

    def __init__(self, call: Call, encode: Callable[[Any], bytes]) -> None:
        self._call = call
        self._encode = encode
        self.code: grpc.StatusCode | None = None
        self.details = ""

    def set_code(self, code: grpc.StatusCode) -> None:
        """Say how the call will fail. Generated code does so for a method that a servicer does not have."""
        self.code = code

    def set_details(self, details: str) -> None:
        """Say why."""
        self.details = details

    async def write(self, message: Any) -> None:
        """Send one of many answers. It does not wait: health sends news to all watchers one after the other."""
        self._call.tell(self._encode(message))

    async def abort(self, code: grpc.StatusCode, details: str = "") -> NoReturn:
        """End the call with an error."""
        self._call.fail(code.value[0], details)
        raise _EndedError


class Library:
    """Runs their calls.

    Attributes:
        methods: What begins a call, by the path of its method.
    """

    def __init__(self) -> None:
        self.methods: dict[str, Callable[[Call], None]] = {}
        self._under_way: set[asyncio.Task[None]] = set()

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """See grpc.aio.Server."""

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """See grpc.aio.Server."""
        for name, handler in method_handlers.items():
            self.methods[f"/{service_name}/{name}"] = partial(self._begin, handler)

    def _begin(self, handler: Any, call: Call) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(handler, call))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        call.run(task, _SECONDS if call.left is None else min(_SECONDS, call.left))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()

    async def _answer(self, handler: Any, call: Call) -> None:
        context = _Context(call, handler.response_serializer)
        try:
            if handler.request_streaming:
                async for answer in handler.stream_stream(_requests(handler, call), context):
                    await call.write(handler.response_serializer(answer))
                call.end()
                return
            request = await _first(handler, call)
            if handler.response_streaming:
                call.wait_for_news()
                await handler.unary_stream(request, context)
                call.end()
            else:
                call.answer(handler.response_serializer(await handler.unary_unary(request, context)))
        except _EndedError:
            pass
        except UnreadableMessageError as error:
            call.fail(error.code, error.message)
        except Exception as error:
            if isinstance(error, NotImplementedError) and context.code is not None:
                call.fail(context.code.value[0], context.details)
                return
            call.fail(grpc.StatusCode.INTERNAL.value[0], "the request failed")
            raise


async def _requests(handler: Any, call: Call) -> AsyncIterator[Any]:
    while (message := await call.read(MAX_REQUEST)) is not None:
        call.wait_for_news()
        yield _decoded(handler, call, message)


async def _first(handler: Any, call: Call) -> Any:
    message = call.whole(MAX_REQUEST)
    if message is None:
        message = await call.read(MAX_REQUEST)
    if message is None:
        call.fail(grpc.StatusCode.INVALID_ARGUMENT.value[0], "the request has no complete message")
        raise _EndedError
    return _decoded(handler, call, message)


def _decoded(handler: Any, call: Call, message: bytes) -> Any:
    try:
        return handler.request_deserializer(message)
    except Exception:  # noqa: BLE001 - protobuf's DecodeError, and whatever else a deserializer raises
        call.fail(grpc.StatusCode.INVALID_ARGUMENT.value[0], "the request is not a protobuf message of its type")
        raise _EndedError from None
