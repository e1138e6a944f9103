"""The emulator as an object: for tests in the same process, and for the command."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Self

from aiohttp import web

from .calls import CallLog, CallRecord
from .control import Control
from .faults import ANY, Fault, FaultBook, FaultKind
from .operations.call import Strangers
from .server import KmsHandler
from .sigv4 import Credential
from .store import Clock, KeyStore

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from .keys import KeySummary
    from .specs import KeyState

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_REGION: Final = "eu-west-1"
DEFAULT_ACCOUNT: Final = "111122223333"
DEFAULT_ACCESS_KEY: Final = "test"
DEFAULT_SECRET_KEY: Final = "test"  # noqa: S105 - of an emulator
_MAX_BODY_BYTES: Final = 1 << 20
_SHUTDOWN_SECONDS: Final = 1.0


class AwsEmulator:
    """AWS KMS of one account in one Region, on the running event loop.

    ```python
    async with AwsEmulator() as emulator:
        client = boto3.client("kms", endpoint_url=emulator.endpoint, region_name=emulator.region,
                              aws_access_key_id=emulator.access_key, aws_secret_access_key=emulator.secret_key)
        emulator.add_fault("throttle", operation="Sign", times=2)
    ```

    boto3 blocks, so call it in a thread (`asyncio.to_thread`), or run the emulator itself in one
    (`ThreadedAwsEmulator`). All methods but `start` and `stop` may be called from any thread. Keys live in memory and
    end with the emulator.

    Args:
        host: the address to listen on. There is no TLS: leave it on loopback.
        port: the port; 0 takes a free one.
        region: the Region whose keys these are, and that signatures must name.
        account: the account of twelve digits whose keys these are.
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
        self.region = region
        self.account = account
        self.access_key = access_key
        self.secret_key = secret_key
        self.store = KeyStore(account=account, region=region, clock=Clock())
        self.book = FaultBook()
        self.log = CallLog()
        self.strangers = Strangers()
        self._credentials = {access_key: Credential(access_key=access_key, secret_key=secret_key)}
        self._address = (host, port)
        self._handler: KmsHandler | None = None
        self._runner: web.AppRunner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._endpoint = ""

    @property
    def endpoint(self) -> str:
        """The URL to give to a client as its endpoint, once started."""
        return self._endpoint

    @property
    def keys(self) -> Mapping[str, KeySummary]:
        """All keys by id, in order of creation; hidden ones too, those whose deletion is over not."""
        return MappingProxyType(dict(self.store.summaries()))

    @property
    def calls(self) -> Mapping[str, int]:
        """How often each operation was asked for since the start or `reset_calls`, refused requests too."""
        return MappingProxyType(self.log.counts())

    @property
    def requests(self) -> tuple[CallRecord, ...]:
        """The last 1000 requests, oldest first."""
        return self.log.records()

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The faults in force, in the order in which they are looked at."""
        return self.book.active()

    @property
    def credentials(self) -> Mapping[str, Credential]:
        """Who may sign requests, by access key id."""
        return MappingProxyType(self._credentials)

    def calls_for(self, key_id: str) -> Mapping[str, int]:
        """Return how often each operation was asked for with one key, given by id or ARN."""
        return MappingProxyType(self.log.counts(key_id))

    def reset_calls(self) -> None:
        """Forget the counts and the requests."""
        self.log.reset()

    def add_fault(self, kind: FaultKind | str, *, operation: str = ANY, **options: Any) -> Fault:
        """Arm a fault, after those that are armed already.

        Args:
            kind: what goes wrong: a FaultKind or its value.
            operation: for which operation; `*` for all.
            options: the other attributes of Fault: key_id, times, seconds, type, status, message, retry_after, after.

        Raises:
            ValueError: the kind is none, or the options make no sense with it.
            TypeError: an option is none.
        """
        return self.arm(Fault(kind=FaultKind(kind), operation=operation, **options))

    def arm(self, fault: Fault) -> Fault:
        """Arm a fault that was made before, and return it."""
        self.book.add(fault)
        return fault

    def clear_faults(self) -> None:
        """Disarm all faults, and let go of the requests that hang. Keys that were hidden stay so for their time."""
        self.book.clear()
        if self._handler is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._handler.release)

    def set_key_state(self, key_id: str, state: KeyState) -> None:
        """Put a key into any state, such as Creating, which an AWS KMS key of this kind rarely is.

        Args:
            key_id: an id or ARN.
            state: the state. PendingDeletion set in this way has no end.

        Raises:
            KeyError: there is no such key.
        """
        key = self.store.find(key_id)
        if key is None:
            raise KeyError(f"no key {key_id}")
        key.state = state
        key.deletion_time = None

    def add_credential(self, credential: Credential) -> None:
        """Let one more access key sign requests, or replace the one of the same id."""
        self._credentials[credential.access_key] = credential

    def expire_credential(self, access_key: str) -> None:
        """Answer requests of an access key with ExpiredTokenException from now on.

        Raises:
            KeyError: there is no such access key.
        """
        self.add_credential(replace(self._credentials[access_key], expire_time=time.time()))

    def advance_clock(self, seconds: float) -> None:
        """Move the clock that keys live by: creation, visibility, deletion. Signatures go by the wall clock."""
        self.store.clock.advance(seconds)

    async def start(self) -> None:
        """Listen. Afterwards `endpoint` accepts connections.

        Raises:
            OSError: the address cannot be listened on.
        """
        self._loop = asyncio.get_running_loop()
        self._handler = KmsHandler(self)
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.add_routes(Control(self).routes())
        app.router.add_route("*", "/{path:.*}", self._handler.handle)
        # Cancellation ends what hangs or is delayed when its client has left.
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
        """Stop listening and close all connections. Harmless where it is stopped already."""
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
    """An AwsEmulator on an event loop of its own, in a thread: for tests without one.

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
