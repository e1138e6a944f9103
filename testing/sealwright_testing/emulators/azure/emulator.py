"""The emulator as an object: for tests in the same process, and for the command."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Any, Final, Self

from aiohttp import web

from .backend import AzureBackend
from .ca import Authority
from .control import Control
from .server import VaultHandler

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_NAME: Final = "sealwright"
DEFAULT_TENANT: Final = "72f988bf-0000-4000-8000-2d7cd011db47"
DEFAULT_CLIENT_ID: Final = "11111111-2222-4333-8444-555555555555"
DEFAULT_CLIENT_SECRET: Final = "test"  # noqa: S105 - of an emulator
_MAX_BODY_BYTES: Final = 1 << 20
_SHUTDOWN_SECONDS: Final = 1.0


class AzureEmulator(AzureBackend):
    """One Key Vault or Managed HSM with its token endpoints, on the running event loop.

    ```python
    async with AzureEmulator() as emulator:
        credential = ClientSecretCredential(emulator.identity.tenant, emulator.identity.client_id, "test",
                                            authority=emulator.endpoint, disable_instance_discovery=True, ...)
        client = KeyClient(emulator.endpoint, credential, verify_challenge_resource=False, ...)
        emulator.add_fault("throttle", operation="Sign", times=2, retry_after=1)
    ```

    All methods but `start` and `stop` may be called from any thread. Keys live in memory and end with the emulator.

    Args:
        host: The address to listen on. Leave it on loopback.
        port: The port; 0 takes a free one.
        managed_hsm: Emulate a Managed HSM instead of a vault.
        tenant: The only tenant whose tokens it takes.
        client_id: The only application that gets tokens.
        client_secret: Its secret.
        recoverable_days: How long soft-deleted keys can be recovered, 7 to 90.
        purge_protection: Whether they can be purged only by waiting.
    """

    def __init__(
        self,
        *,
        host: str = DEFAULT_HOST,
        port: int = 0,
        managed_hsm: bool = False,
        tenant: str = DEFAULT_TENANT,
        client_id: str = DEFAULT_CLIENT_ID,
        client_secret: str = DEFAULT_CLIENT_SECRET,
        recoverable_days: int = 90,
        purge_protection: bool = False,
    ) -> None:
        super().__init__(
            managed_hsm=managed_hsm,
            tenant=tenant,
            client_id=client_id,
            client_secret=client_secret,
            recoverable_days=recoverable_days,
            purge_protection=purge_protection,
        )
        self._address = (host, port)
        self._authority: Authority | None = None
        self._handler: VaultHandler | None = None
        self._runner: web.AppRunner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._port = 0

    @property
    def endpoint(self) -> str:
        """The URL under `localhost`, once started. Clients must not verify the challenge's resource there."""
        return f"https://localhost:{self._port}"

    @property
    def vault_url(self) -> str:
        """The URL under a name of its own, where clients verify the challenge's resource.

        They must resolve names that end in `.localhost` to the loopback address (RFC 6761 §6.3).
        """
        kind = "managedhsm" if self.managed_hsm else "vault"
        return f"https://{DEFAULT_NAME}.{kind}.localhost:{self._port}"

    @property
    def ca(self) -> str:
        """The path of the CA certificate that clients must trust, in PEM, once started."""
        return "" if self._authority is None else str(self._authority.path)

    def details(self) -> dict[str, str]:
        """Return what a client needs beside `endpoint`: the command prints it."""
        return {
            "ca": self.ca,
            "vault_url": self.vault_url,
            "tenant_id": self.identity.tenant,
            "client_id": self.identity.client_id,
        }

    def clear_faults(self) -> None:
        """Disarm all faults, and end the requests that hang. Keys that were hidden stay hidden for their time."""
        super().clear_faults()
        if self._handler is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._handler.release)

    async def start(self) -> None:
        """Listen. Afterwards `endpoint` accepts connections.

        Raises:
            OSError: The address cannot be listened on.
        """
        self._loop = asyncio.get_running_loop()
        self._handler = VaultHandler(self)
        authority = Authority()
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.add_routes(Control(self).routes())
        app.add_routes(self._handler.routes())
        # Cancellation ends what hangs or is delayed when its client has left.
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        try:
            site = web.TCPSite(runner, *self._address, ssl_context=authority.context)
            await site.start()
        except OSError:
            await runner.cleanup()
            authority.close()
            raise
        self._runner, self._authority = runner, authority
        self._port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening and close all connections. May be called twice."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        self.book.clear()
        if self._handler is not None:
            self._handler.release()
        await runner.cleanup()
        if self._handler is not None:
            await self._handler.finish()
        if self._authority is not None:
            self._authority.close()

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()


class ThreadedAzureEmulator:
    """An AzureEmulator on an event loop of its own, in a thread: for tests without one.

    Args:
        options: Those of AzureEmulator.
    """

    def __init__(self, **options: Any) -> None:
        self._emulator = AzureEmulator(**options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="azure-emulator", daemon=True)

    def __enter__(self) -> AzureEmulator:
        """Start, and return the emulator once it accepts connections."""
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._emulator.start(), self._loop).result()
        except BaseException:
            self._end()
            raise
        return self._emulator

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and wait for the thread."""
        try:
            asyncio.run_coroutine_threadsafe(self._emulator.stop(), self._loop).result()
        finally:
            self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
