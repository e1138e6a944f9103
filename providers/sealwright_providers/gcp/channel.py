"""The connection to Google Cloud KMS: unary calls of its gRPC API, on the protobuf classes of google-cloud-kms.

The client class of google-cloud-kms is not used: it always speaks TLS, reads endpoints and certificates from environment variables,
and repeats calls for 60 s whatever the `timeout`. It and the client of gRPC take several times as much CPU time for a call as the
HTTP/2 of `sealwright_providers.http2` (decision 0011).
"""

from __future__ import annotations

import asyncio
import binascii
import ssl
from base64 import b64decode
from typing import Any, Final
from urllib.parse import quote

from google.protobuf.message import DecodeError
from google.rpc import code_pb2  # type: ignore[import-untyped]

from sealwright.http2.frames import Code, header_field
from sealwright.provider import ProviderTimeoutError, ProviderUnavailableError
from sealwright_providers.dial import BadAnswerError, PoolClosedError, Server
from sealwright_providers.gcp.credentials import CredentialSource, Headers
from sealwright_providers.gcp.errors import CredentialsRefusedError, to_provider_error
from sealwright_providers.gcp.limits import limited
from sealwright_providers.http2.pool import Pool
from sealwright_providers.http2.requests import Answer, StreamResetError

_SERVICE: Final = "/google.cloud.kms.v1.KeyManagementService/"
_REPEATABLE: Final = frozenset(
    {"AsymmetricSign", "MacSign", "GetKeyRing", "GetCryptoKey", "GetCryptoKeyVersion", "GetPublicKey", "ListCryptoKeys"}
)
"""Operations that KMS may get twice."""
_MAX_HEADS: Final = 1000
_HTTPS_PORT: Final = "443"
_OK: Final = b"200"
_CLOSED: Final = "the connection to Google Cloud KMS is closed"
_UNREACHABLE: Final = "Google Cloud KMS cannot be reached, or ended the connection"
_UNREADABLE: Final = "the answer of Google Cloud KMS cannot be parsed"
_PREFIX_BYTES: Final = 5
"""Before a message: whether it is compressed, and its length (gRPC over HTTP/2, "Length-Prefixed-Message")."""
_BY_STATUS: Final[dict[bytes, int]] = {
    b"400": code_pb2.INTERNAL,
    b"401": code_pb2.UNAUTHENTICATED,
    b"403": code_pb2.PERMISSION_DENIED,
    b"404": code_pb2.UNIMPLEMENTED,
    b"429": code_pb2.UNAVAILABLE,
    b"502": code_pb2.UNAVAILABLE,
    b"503": code_pb2.UNAVAILABLE,
    b"504": code_pb2.UNAVAILABLE,
}
"""What an answer without grpc-status means (gRPC, "HTTP to gRPC Status Code Mapping"): a proxy or gateway answered."""
_BY_RESET: Final[dict[int, int]] = {
    Code.ENHANCE_YOUR_CALM: code_pb2.RESOURCE_EXHAUSTED,
    Code.CANCEL: code_pb2.CANCELLED,
}
"""What the end of a stream means (gRPC over HTTP/2, "Errors"). All others are INTERNAL."""


class KmsChannel:
    """Calls to one endpoint. Belongs to the event loop that it is used in."""

    def __init__(self, endpoint: str, source: CredentialSource | None, context: ssl.SSLContext | None) -> None:
        """Prepare; the first call connects.

        Args:
            endpoint: `host:port`.
            source: The credentials; None: none are sent.
            context: TLS context; None: plaintext.
        """
        host, _, port = endpoint.rpartition(":")
        authority = host if context is not None and port == _HTTPS_PORT else endpoint
        if context is not None:
            context.set_alpn_protocols(["h2"])
        self._source = source
        self._pool = Pool(Server(host.strip("[]"), int(port), context=context))
        self._common = (
            header_field(b":method", b"POST")
            + header_field(b":scheme", b"http" if context is None else b"https")
            + header_field(b":authority", authority.encode())
        )
        self._heads: dict[tuple[str, str], bytes] = {}
        self._secret: tuple[Headers, bytes] = ((), b"")

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
        if self._pool.closed:
            raise ProviderUnavailableError(_CLOSED)
        if timeout <= 0:
            raise ProviderTimeoutError("the deadline passed before Google Cloud KMS could be called")
        headers: Headers = ()
        if self._source is not None:
            headers = self._source.valid() or ()
            if not headers:
                loop = asyncio.get_running_loop()
                end = loop.time() + timeout
                async with limited(timeout):
                    headers = await self._source.headers()
                timeout = end - loop.time()
        body = request.SerializeToString()
        block = self._block(operation, field, name, headers, timeout)
        came = await self._exchange(block, len(body).to_bytes(_PREFIX_BYTES, "big") + body, operation, timeout)
        status = came.trailers.get(b"grpc-status") or came.fields.get(b"grpc-status")
        if status == b"0" and came.fields.get(b":status") == _OK:
            return _parsed(came.data, answer)
        # Details come in the trailers of this answer alone.
        code = _code(status, came.fields.get(b":status", b""))
        error = to_provider_error(code, _binary(came.trailers.get(b"grpc-status-details-bin", b"")))
        if self._source is not None and isinstance(error, CredentialsRefusedError):
            self._source.refused(headers)
        raise error

    async def aclose(self) -> None:
        """Close the connections; calls in flight end. May be called twice."""
        await self._pool.aclose()
        if self._source is not None:
            await self._source.aclose()

    async def _exchange(self, block: bytes, message: bytes, operation: str, timeout: float) -> Answer:
        try:
            return await self._pool.request(block, message, timeout=timeout, repeatable=operation in _REPEATABLE)
        except StreamResetError as e:
            code = _BY_RESET.get(e.code, code_pb2.INTERNAL)
            error = to_provider_error(code, b"")
        except PoolClosedError:
            error = ProviderUnavailableError(_CLOSED)
        except TimeoutError:
            error = to_provider_error(code_pb2.DEADLINE_EXCEEDED, b"")
        except OSError:
            error = ProviderUnavailableError(_UNREACHABLE)
        except BadAnswerError:
            error = ProviderUnavailableError(_UNREADABLE)
        # Not raised in an except block: texts of the caught errors name hosts and ports.
        raise error

    def _block(self, operation: str, route: str, name: str, headers: Headers, timeout: float) -> bytes:
        """Return the header fields of a call."""
        head = self._heads.get((operation, name))
        if head is None:
            if len(self._heads) >= _MAX_HEADS:
                self._heads.clear()
            head = self._heads[operation, name] = (
                self._common
                + header_field(b":path", (_SERVICE + operation).encode())
                + header_field(b"te", b"trailers")
                + header_field(b"content-type", b"application/grpc")
                + header_field(b"user-agent", b"sealwright")
                + header_field(b"x-goog-request-params", f"{route}={quote(name, safe='/')}".encode())
            )
        if headers is not self._secret[0]:
            self._secret = headers, b"".join(header_field(k.encode(), v.encode(), secret=True) for k, v in headers)
        # Eight digits at most: more than a day in milliseconds.
        return (
            head
            + self._secret[1]
            + header_field(b"grpc-timeout", b"%dm" % min(99_999_999, max(1, int(timeout * 1000))))
        )


def _parsed(data: bytes, answer: Any) -> Any:
    """Return the one message of an answer."""
    if len(data) >= _PREFIX_BYTES and data[0] == 0 and int.from_bytes(data[1:_PREFIX_BYTES], "big") + 5 == len(data):
        try:
            return answer.FromString(data[_PREFIX_BYTES:])
        except DecodeError:
            pass
    raise ProviderUnavailableError(_UNREADABLE)


def _code(status: bytes | None, http_status: bytes) -> int:
    """Return the code of an answer that failed."""
    if status is None:
        return _BY_STATUS.get(http_status, int(code_pb2.UNKNOWN))
    known = int(status) if status.isdigit() and len(status) <= 2 else int(code_pb2.UNKNOWN)  # noqa: PLR2004 - digits
    return known or int(code_pb2.INTERNAL)  # With code 0 here, the server contradicts itself.


def _binary(value: bytes) -> bytes:
    """Return what a field has whose name ends in `-bin` (gRPC over HTTP/2, "Custom-Metadata"): base64, padded or not."""
    try:
        return b64decode(value + b"=" * (-len(value) % 4))
    except binascii.Error:
        return b""
