"""What tests ask of the emulator over HTTP, on a port of its own: gRPC needs generated code, and HTTP does not."""

from __future__ import annotations

from aiohttp import web

from sealwright_testing.emulators.control import PREFIX, FaultRoutes, field, guarded

from .emulator import GcpEmulator
from .faults import Fault


class ControlledEmulator:
    """An emulator and its control routes, for the command.

    | request | body | answer |
    |---|---|---|
    | `GET /_emulator/faults` | | the faults in force |
    | `POST /_emulator/faults` | a fault, or a list of them (the attributes of `Fault`) | the same |
    | `DELETE /_emulator/faults` | | `[]`; calls that hang end |
    | `GET /_emulator/calls` | | how often each operation was asked for, refused requests too |
    | `POST /_emulator/calls/reset` | | `{}`; forgets the counts |
    | `GET /_emulator/versions` | | all key versions (the attributes of `VersionSummary`) |
    | `POST /_emulator/versions` | `{"name": …, "state": "DISABLED"}` | `{}`; puts a version into any state |
    | `POST /_emulator/clock` | `{"advance_seconds": 86400}` | `{}`; moves the clock that keys live by |

    A request that makes no sense gets 400 and `{"message": …}`. Nothing has then changed.

    Attributes:
        extra: What the command's line says besides the endpoint; has `control`, a URL, once started.
    """

    def __init__(self, emulator: GcpEmulator, host: str) -> None:
        self._emulator = emulator
        self._faults = FaultRoutes(Fault.from_json, emulator.book, emulator.clear_faults)
        self._host = host
        self._runner: web.AppRunner | None = None
        self.extra = {"control": ""}

    @property
    def endpoint(self) -> str:
        """The URL of the emulator."""
        return self._emulator.endpoint

    async def start(self) -> None:
        """Listen on both ports.

        Raises:
            OSError: An address cannot be listened on.
        """
        await self._emulator.start()
        app = web.Application()
        app.add_routes(
            [
                *self._faults.routes(),
                web.get(f"{PREFIX}/calls", guarded(self._get_calls)),
                web.post(f"{PREFIX}/calls/reset", guarded(self._reset_calls)),
                web.get(f"{PREFIX}/versions", guarded(self._get_versions)),
                web.post(f"{PREFIX}/versions", guarded(self._set_state)),
                web.post(f"{PREFIX}/clock", guarded(self._move_clock)),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, 0).start()
        self.extra["control"] = f"http://{self._host}:{self._runner.addresses[0][1]}{PREFIX}"

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
        await self._emulator.stop()

    async def _get_calls(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response(dict(self._emulator.calls))

    async def _reset_calls(self, _request: web.Request) -> web.StreamResponse:
        self._emulator.reset_calls()
        return web.json_response({})

    async def _get_versions(self, _request: web.Request) -> web.StreamResponse:
        found = [
            {
                "name": v.name,
                "state": v.state,
                "algorithm": v.algorithm,
                "protection": v.protection,
                "labels": {**v.labels},
            }
            for v in self._emulator.versions
        ]
        return web.json_response(found)

    async def _set_state(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self._emulator.set_state(field(body, "name", str), field(body, "state", str))
        return web.json_response({})

    async def _move_clock(self, request: web.Request) -> web.StreamResponse:
        self._emulator.advance_clock(field(await request.json(), "advance_seconds", int, float))
        return web.json_response({})
