"""Control of the emulator over HTTPS, for tests in any language."""

from __future__ import annotations

from dataclasses import asdict

from aiohttp import web

from sealwright_testing.emulators.control import PREFIX, FaultRoutes, field, guarded

from .backend import AzureBackend
from .errors import AzureError
from .faults import Fault


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
        self._faults = FaultRoutes(Fault.from_json, backend.book, backend.clear_faults)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            *self._faults.routes(),
            web.get(f"{PREFIX}/calls", guarded(self._get_calls)),
            web.post(f"{PREFIX}/calls/reset", guarded(self._reset_calls)),
            web.get(f"{PREFIX}/requests", guarded(self._get_requests)),
            web.get(f"{PREFIX}/keys", guarded(self._get_keys)),
            web.post(f"{PREFIX}/keys/{{name}}", guarded(self._set_attributes, AzureError)),
            web.post(f"{PREFIX}/tokens/revoke", guarded(self._revoke_tokens)),
            web.post(f"{PREFIX}/clock", guarded(self._move_clock)),
        ]

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
        self._backend.advance_clock(field(await request.json(), "advance_seconds", int, float))
        return web.json_response({"time": self._backend.vault.keys.clock.now()})
