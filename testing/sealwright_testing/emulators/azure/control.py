"""Control of the emulator over HTTPS, for tests in any language."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, Final

from aiohttp import web

from .backend import AzureBackend
from .errors import AzureError
from .faults import Fault

PREFIX: Final = "/_emulator"
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Control:
    """The control routes. They need no token.

    | request | body | answer |
    |---|---|---|
    | `GET /_emulator/faults` | | the faults in force, with the `left` times of those that end |
    | `POST /_emulator/faults` | a fault, or a list of them (the attributes of `Fault`) | the same |
    | `DELETE /_emulator/faults` | | `[]`; hanging requests are let go |
    | `GET /_emulator/calls[?name=...]` | | how often each operation was asked for |
    | `POST /_emulator/calls/reset` | | `{}`; forgets counts and requests |
    | `GET /_emulator/requests` | | the last 1000 requests, oldest first (the attributes of `CallRecord`) |
    | `GET /_emulator/keys` | | all versions of all keys (the attributes of `KeySummary`) |
    | `POST /_emulator/keys/{name}` | some of `version`, `enabled`, `not_before`, `expires` | `{}`; changes the attributes |
    | `POST /_emulator/tokens/revoke` | | `{}`; all tokens issued so far stop working |
    | `POST /_emulator/clock` | `{"advance_seconds": 86400}` | `{"time": ...}`; moves the clock that keys live by |

    A request that is not valid gets 400 and `{"message": ...}`, and changes nothing.
    """

    def __init__(self, backend: AzureBackend) -> None:
        self._backend = backend

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get(f"{PREFIX}/faults", _guarded(self._get_faults)),
            web.post(f"{PREFIX}/faults", _guarded(self._add_faults)),
            web.delete(f"{PREFIX}/faults", _guarded(self._clear_faults)),
            web.get(f"{PREFIX}/calls", _guarded(self._get_calls)),
            web.post(f"{PREFIX}/calls/reset", _guarded(self._reset_calls)),
            web.get(f"{PREFIX}/requests", _guarded(self._get_requests)),
            web.get(f"{PREFIX}/keys", _guarded(self._get_keys)),
            web.post(f"{PREFIX}/keys/{{name}}", _guarded(self._set_attributes)),
            web.post(f"{PREFIX}/tokens/revoke", _guarded(self._revoke_tokens)),
            web.post(f"{PREFIX}/clock", _guarded(self._move_clock)),
        ]

    async def _get_faults(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response(self._backend.book.to_json())

    async def _add_faults(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        # All are read before any is armed, so that an error in the last one does not leave half of them.
        faults = [Fault.from_json(item) for item in (body if isinstance(body, list) else [body])]
        for fault in faults:
            self._backend.arm(fault)
        return await self._get_faults(request)

    async def _clear_faults(self, request: web.Request) -> web.StreamResponse:
        self._backend.clear_faults()
        return await self._get_faults(request)

    async def _get_calls(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self._backend.log.counts(request.query.get("name")))

    async def _reset_calls(self, _request: web.Request) -> web.StreamResponse:
        self._backend.reset_calls()
        return web.json_response({})

    async def _get_requests(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response([record.to_json() for record in self._backend.log.records()])

    async def _get_keys(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response([asdict(key) for key in self._backend.keys])

    async def _set_attributes(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if not isinstance(body, dict) or not set(body) <= {"version", "enabled", "not_before", "expires"}:
            raise ValueError("known: version, enabled, not_before, expires")
        self._backend.set_attributes(request.match_info["name"], **body)
        return web.json_response({})

    async def _revoke_tokens(self, _request: web.Request) -> web.StreamResponse:
        self._backend.identity.revoke_all()
        return web.json_response({})

    async def _move_clock(self, request: web.Request) -> web.StreamResponse:
        body: Any = await request.json()
        seconds = body.get("advance_seconds") if isinstance(body, dict) else None
        if not isinstance(seconds, int | float):
            raise ValueError("advance_seconds must be a number")  # noqa: TRY004 - the caller sees one kind of bad input
        self._backend.advance_clock(seconds)
        return web.json_response({"time": self._backend.vault.keys.clock.now()})


def _guarded(handler: _Handler) -> _Handler:
    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except json.JSONDecodeError as error:
            return web.json_response({"message": f"not JSON: {error}"}, status=400)
        except (ValueError, KeyError, AzureError) as error:
            return web.json_response({"message": str(error)}, status=400)

    return guarded
