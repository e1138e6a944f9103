"""The emulator as an object, for tests in the same process and for the command."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Any, Final, Self

from aiohttp import web

from .backend import AwsBackend
from .control import Control
from .server import KmsHandler

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_REGION: Final = "eu-west-1"
DEFAULT_ACCOUNT: Final = "111122223333"
DEFAULT_ACCESS_KEY: Final = "test"
DEFAULT_SECRET_KEY: Final = "test"  # noqa: S105 - of an emulator
_MAX_BODY_BYTES: Final = 1 << 20
_SHUTDOWN_SECONDS: Final = 1.0


class AwsEmulator(AwsBackend):
    """AWS KMS of one account in one Region, on the running event loop.

    ```python
    async with AwsEmulator() as emulator:
        client = boto3.client("kms", endpoint_url=emulator.endpoint, region_name=emulator.region,
                              aws_access_key_id=emulator.access_key, aws_secret_access_key=emulator.secret_key)
        emulator.add_fault("throttle", operation="Sign", times=2)
    ```

    boto3 blocks, so call it in a thread (`asyncio.to_thread`), or run the emulator itself in one
    (`ThreadedAwsEmulator`). All methods except `start` and `stop` may be called from any thread. Keys exist only in memory.

    Args:
        host: the address to listen on. Keep it on loopback, since there is no TLS.
        port: the port; 0 takes a free one.
        region: the Region of the keys, which signatures of requests must name.
        account: the account of the keys, twelve digits.
        access_key: the id of the access key that may sign requests.
        secret_key: its secret.
    """

    def __init__(
        self,
        *,
        host: str = DEFAULT_HOST,
        port: int = 0,
        region: str = DEFAULT_REGION,
        account: str = DEFAULT_ACCOUNT,
        access_key: str = DEFAULT_ACCESS_KEY,
        secret_key: str = DEFAULT_SECRET_KEY,
    ) -> None:
        super().__init__(region=region, account=account, access_key=access_key, secret_key=secret_key)
        self._address = (host, port)
        self._handler: KmsHandler | None = None
        self._runner: web.AppRunner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._endpoint = ""

    @property
    def endpoint(self) -> str:
        """The URL to give to a client as its endpoint, once started."""
        return self._endpoint

    def clear_faults(self) -> None:
        """Remove all faults, and end the requests that hang. Keys that were hidden stay hidden for their time."""
        super().clear_faults()
        if self._handler is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._handler.release)

    async def start(self) -> None:
        """Listen. Afterwards `endpoint` accepts connections.

        Raises:
            OSError: the address cannot be used.
        """
        self._loop = asyncio.get_running_loop()
        self._handler = KmsHandler(self)
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.add_routes(Control(self).routes())
        app.router.add_route("*", "/{path:.*}", self._handler.handle)
        # Cancellation ends requests that hang or are delayed when their client disconnects.
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        try:
            site = web.TCPSite(runner, *self._address)
            await site.start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        host, port = runner.addresses[0][:2]
        self._endpoint = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def stop(self) -> None:
        """Stop listening and close all connections. Does nothing if already stopped."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        self.book.clear()
        if self._handler is not None:
            self._handler.release()
        await runner.cleanup()
        if self._handler is not None:
            await self._handler.finish()

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()


class ThreadedAwsEmulator:
    """An AwsEmulator on its own event loop in a thread, for tests without an event loop.

    ```python
    with ThreadedAwsEmulator() as emulator:   # an AwsEmulator
        client = boto3.client("kms", endpoint_url=emulator.endpoint, ...)
    ```

    Args:
        options: those of AwsEmulator.
    """

    def __init__(self, **options: Any) -> None:
        self._emulator = AwsEmulator(**options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="aws-emulator", daemon=True)

    def __enter__(self) -> AwsEmulator:
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
