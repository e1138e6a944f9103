"""Controls the emulator over HTTP, with unsigned requests under a path that AWS KMS does not have: `/_emulator/`."""

from __future__ import annotations

import time
from dataclasses import asdict

from aiohttp import web

from sealwright_testing.emulators.control import PREFIX, FaultRoutes, field, guarded

from .backend import AwsBackend
from .faults import Fault
from .sigv4 import Credential
from .specs import KeyState


class Control:
    """The control routes.

    | request | body | answer |
    |---|---|---|
    | `GET /_emulator/faults` | | the active faults, with the `left` times of those that end |
    | `POST /_emulator/faults` | a fault, or a list of them (the attributes of `Fault`) | the same |
    | `DELETE /_emulator/faults` | | `[]`; ends requests that hang |
    | `GET /_emulator/calls[?key_id=...]` | | how often each operation was requested, including refused requests |
    | `POST /_emulator/calls/reset` | | `{}`; forgets counts and requests |
    | `GET /_emulator/requests` | | the last 1000 requests, oldest first (the attributes of `CallRecord`) |
    | `GET /_emulator/keys` | | all keys by id (the attributes of `KeySummary`) |
    | `POST /_emulator/keys/{key_id}` | `{"state": "Creating"}` | the key; puts it into any state |
    | `POST /_emulator/credentials` | `access_key`, `secret_key`, and if they are temporary `session_token`, `expire_in_seconds` | `{}` |
    | `POST /_emulator/clock` | `{"advance_seconds": 86400}` | `{"time": ...}`; moves the clock of the keys |

    An invalid request gets 400 and `{"message": ...}`, and changes nothing.
    """  # noqa: E501 - a table

    def __init__(self, backend: AwsBackend) -> None:
        self._backend = backend
        self._faults = FaultRoutes(Fault.from_json, backend.book, backend.clear_faults)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            *self._faults.routes(),
            web.get(f"{PREFIX}/calls", guarded(self._get_calls)),
            web.post(f"{PREFIX}/calls/reset", guarded(self._reset_calls)),
            web.get(f"{PREFIX}/requests", guarded(self._get_requests)),
            web.get(f"{PREFIX}/keys", guarded(self._get_keys)),
            web.post(f"{PREFIX}/keys/{{key_id}}", guarded(self._set_state)),
            web.post(f"{PREFIX}/credentials", guarded(self._add_credentials)),
            web.post(f"{PREFIX}/clock", guarded(self._move_clock)),
        ]

    async def _get_calls(self, request: web.Request) -> web.StreamResponse:
        key_id = request.query.get("key_id")
        return web.json_response(dict(self._backend.calls if key_id is None else self._backend.calls_for(key_id)))

    async def _reset_calls(self, _request: web.Request) -> web.StreamResponse:
        self._backend.reset_calls()
        return web.json_response({})

    async def _get_requests(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response([record.to_json() for record in self._backend.log.records()])

    async def _get_keys(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({key_id: asdict(key) for key_id, key in self._backend.keys.items()})

    async def _set_state(self, request: web.Request) -> web.StreamResponse:
        key_id = request.match_info["key_id"]
        self._backend.set_key_state(key_id, KeyState(field(await request.json(), "state", str)))
        return web.json_response(asdict(self._backend.keys[key_id]))

    async def _add_credentials(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        seconds = field(body, "expire_in_seconds", int, float, type(None))
        credential = Credential(
            access_key=field(body, "access_key", str),
            secret_key=field(body, "secret_key", str),
            session_token=field(body, "session_token", str, type(None)),
            expire_time=None if seconds is None else time.time() + seconds,
        )
        self._backend.add_credential(credential)
        return web.json_response({})

    async def _move_clock(self, request: web.Request) -> web.StreamResponse:
        self._backend.advance_clock(field(await request.json(), "advance_seconds", int, float))
        return web.json_response({"time": self._backend.store.clock.now()})
