"""Control of an emulator over HTTP, for tests in any language: what every emulator has."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic

from aiohttp import web

from .faultbook import FaultBook, FaultT

PREFIX: Final = "/_emulator"
"""Where the routes are. No KMS has such paths."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FaultRoutes(Generic[FaultT]):
    """The routes that read, add and clear faults."""

    def __init__(
        self, read: Callable[[object], FaultT], book: FaultBook[FaultT], clear: Callable[[], None] | None = None
    ) -> None:
        """Prepare.

        Args:
            read: Reads a fault from its JSON.
            book: The faults.
            clear: Clears them; None: `book.clear`.
        """
        self._read = read
        self._book = book
        self._clear = clear or book.clear

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get(f"{PREFIX}/faults", guarded(self._get)),
            web.post(f"{PREFIX}/faults", guarded(self._add)),
            web.delete(f"{PREFIX}/faults", guarded(self._delete)),
        ]

    async def _get(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response(self._book.to_json())

    async def _add(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        # Parse all before adding any, so that an error in the last one does not leave half of them active.
        faults = [self._read(item) for item in (body if isinstance(body, list) else [body])]
        for fault in faults:
            self._book.add(fault)
        return await self._get(request)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        self._clear()
        return await self._get(request)


def field(body: object, name: str, *kinds: type) -> Any:
    """Return a field of a JSON object.

    Args:
        body: The object.
        name: The field's name.
        kinds: The types that it may have; NoneType: it may be missing.

    Raises:
        ValueError: The field is missing or has another type.
    """
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, kinds):
        raise ValueError(f"{name} is required, and must be of the type {' or '.join(k.__name__ for k in kinds)}")  # noqa: TRY004 - the caller sees one kind of bad input
    return value


def guarded(handler: Handler, *errors: type[Exception]) -> Handler:
    """Return a handler that answers an invalid request with 400 and `{"message": ...}`.

    Args:
        handler: Raises ValueError or KeyError for an invalid request.
        errors: What else it raises.
    """
    invalid: tuple[type[Exception], ...] = (ValueError, KeyError, *errors)

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except json.JSONDecodeError as error:
            return web.json_response({"message": f"not JSON: {error}"}, status=400)
        except invalid as error:
            return web.json_response({"message": str(error)}, status=400)

    return answer
