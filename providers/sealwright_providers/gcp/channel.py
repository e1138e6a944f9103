"""The connection to Google Cloud KMS: calls of its gRPC API on the protobuf classes of google-cloud-kms.

The client class of google-cloud-kms is not used: it costs a third more CPU time for each call, always speaks TLS, reads endpoints
and certificates from environment variables, and repeats calls for 60 s whatever the `timeout`.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final
from urllib.parse import quote

import grpc
from google.protobuf.message import DecodeError

from sealwright.provider import ProviderError, ProviderTimeoutError, ProviderUnavailableError
from sealwright_providers.gcp.credentials import CredentialSource, Headers
from sealwright_providers.gcp.errors import CredentialsRefusedError, to_provider_error
from sealwright_providers.gcp.limits import limited

_SERVICE: Final = "/google.cloud.kms.v1.KeyManagementService/"
_REPEATABLE: Final = frozenset(
    {"AsymmetricSign", "MacSign", "GetKeyRing", "GetCryptoKey", "GetCryptoKeyVersion", "GetPublicKey", "ListCryptoKeys"}
)
"""Operations that KMS may get twice."""
_MAX_ROUTES: Final = 1000
_GRACE_SECONDS: Final = 3.0
"""Time that the calls on an old channel get."""
_RENEWAL_SECONDS: Final = 1.0
"""Shortest time between two channels that are opened because the one before was silent."""
_CLOSED: Final = "the connection to Google Cloud KMS is closed"
_OPTIONS: Final = (
    ("grpc.primary_user_agent", "sealwright"),
    # Only the guard repeats calls.
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    # Endpoints and proxies come from the configuration alone.
    ("grpc.enable_http_proxy", 0),
    # After an outage the default backoff refuses calls for up to 2.8 s; this one for 0.5 s.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Despite its name this is the least time that gRPC gives to TCP, TLS and HTTP/2 together. With 100 ms, a KMS on another
    # continent could never be reached.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    # A connection that silently lost its peer is replaced while calls wait on it. Measured: with keepalive_timeout_ms alone, or
    # without any of these, that takes a minute; with ping_timeout_ms 5 s.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    # Each provider has its own connection, and closing it closes the socket.
    ("grpc.use_local_subchannel_pool", 1),
    # Messages are small, so that the bandwidth need not be probed, and nobody reads channelz.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.enable_channelz", 0),
)


class KmsChannel:
    """A channel to one endpoint. Belongs to the event loop that it is made in.

    All calls share one connection. If it ends under them, that says nothing about KMS: each is made once more, on the next
    connection, if it may be repeated. If a call gets no answer in its time, and no other call got one meanwhile, the connection may
    be dead without a word: the calls after it use a new one.
    """

    def __init__(self, endpoint: str, source: CredentialSource | None, roots: bytes | None) -> None:
        """Prepare; the first call connects.

        Args:
            endpoint: `host:port`.
            source: The credentials; None: plaintext without credentials.
            roots: Certificate authorities to trust, PEM; None: those that come with gRPC.
        """
        self._endpoint = endpoint
        self._source = source
        self._tls = None if source is None else grpc.ssl_channel_credentials(root_certificates=roots)
        self._closed = False
        self._channel = self._open()
        self._methods: dict[str, Any] = {}
        self._routes: dict[str, str] = {}
        self._answered = 0.0
        self._opened = 0.0
        self._closing: set[asyncio.Task[None]] = set()

    def _open(self) -> grpc.aio.Channel:
        if self._tls is None:
            return grpc.aio.insecure_channel(self._endpoint, options=_OPTIONS)
        return grpc.aio.secure_channel(self._endpoint, self._tls, options=_OPTIONS)

    async def call(self, operation: str, request: Any, answer: Any, field: str, name: str, *, timeout: float) -> Any:
        """Call an operation of the API.

        Args:
            operation: Its name in the RPC reference.
            request: The protobuf message.
            answer: The protobuf class of the answer.
            field: The field of the request that routes it (AIP-4222).
            name: The value of that field.
            timeout: Seconds that the call may take.

        Returns:
            An `answer`.

        Raises:
            ProviderError: KMS refused, failed or did not answer, or the channel is closed.
        """
        if self._closed:
            raise ProviderUnavailableError(_CLOSED)
        if timeout <= 0:
            raise ProviderTimeoutError("the deadline passed before Google Cloud KMS could be called")
        loop = asyncio.get_running_loop()
        start = loop.time()
        headers: Headers = () if self._source is None else self._source.valid() or await _renewed(self._source, timeout)
        metadata = (("x-goog-request-params", self._route(field, name)), *headers)
        body = request.SerializeToString()
        was_ready = operation in _REPEATABLE and self._channel.get_state() is grpc.ChannelConnectivity.READY
        error: BaseException
        while True:
            try:
                left = start + timeout - loop.time()
                raw = await self._method(operation)(body, timeout=left, metadata=metadata)
                self._answered = loop.time()
                return answer.FromString(raw)
            except grpc.aio.AioRpcError as e:
                if was_ready and self._has_died(e):
                    was_ready = False
                    continue
                error = self._failure(e, headers, start)
            except DecodeError:
                error = ProviderUnavailableError("the answer of Google Cloud KMS cannot be parsed")
            except grpc.aio.UsageError:
                error = ProviderUnavailableError(_CLOSED)
            except asyncio.CancelledError as e:
                if start + timeout <= loop.time():
                    self._suspect(start)
                # Closing the channel raises this in calls whose tasks nobody has cancelled.
                ours = self._is_closed() and not _is_cancelled()
                error = ProviderUnavailableError(_CLOSED) if ours else asyncio.CancelledError(*e.args)
            break
        # Not raised in an except block: the caught error holds the call, the call holds the connection, and its text names keys.
        raise error

    async def aclose(self) -> None:
        """Close the channel; calls in flight end. May be called twice."""
        if self._closed:
            return
        self._closed = True
        await self._channel.close()
        await asyncio.gather(*self._closing, return_exceptions=True)
        if self._source is not None:
            await self._source.aclose()

    def _method(self, operation: str) -> Any:
        method = self._methods.get(operation)
        if method is None:
            # Without a serialiser the call takes and returns bytes: gRPC would log an answer that cannot be parsed.
            method = self._methods[operation] = self._channel.unary_unary(_SERVICE + operation)
        return method

    def _route(self, field: str, name: str) -> str:
        route = self._routes.get(name)
        if route is None:
            if len(self._routes) >= _MAX_ROUTES:
                self._routes.clear()
            route = self._routes[name] = quote(name, safe="/")
        return f"{field}={route}"

    def _failure(self, refusal: grpc.aio.AioRpcError, headers: Headers, start: float) -> ProviderError:
        error = to_provider_error(refusal)
        if refusal.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            self._suspect(start)
        else:
            self._answered = asyncio.get_running_loop().time()
        if self._source is not None and isinstance(error, CredentialsRefusedError):
            self._source.refused(headers)
        return error

    def _has_died(self, refusal: grpc.aio.AioRpcError) -> bool:
        """Tell whether a call failed because the connection ended. If KMS itself refuses, the channel stays ready."""
        unavailable = refusal.code() is grpc.StatusCode.UNAVAILABLE
        return unavailable and self._channel.get_state() is not grpc.ChannelConnectivity.READY

    def _suspect(self, start: float) -> None:
        """Open a new channel if nothing has come over this one since a call began that got no answer."""
        now = asyncio.get_running_loop().time()
        if self._closed or self._answered > start or now - self._opened < _RENEWAL_SECONDS:
            return
        old, self._channel = self._channel, self._open()
        self._methods.clear()
        self._opened = now
        closing = asyncio.ensure_future(old.close(_GRACE_SECONDS))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _is_closed(self) -> bool:
        return self._closed


async def _renewed(source: CredentialSource, timeout: float) -> Headers:
    async with limited(timeout):
        return await source.headers()


def _is_cancelled() -> bool:
    """Tell whether somebody has cancelled the current task."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
