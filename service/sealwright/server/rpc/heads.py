"""The header fields of a call: gRPC over HTTP/2, and the rules of RFC 9113 §8.2 and §8.3.1 for requests."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from google.rpc.code_pb2 import Code  # type: ignore[import-untyped]

from sealwright.http2.frames import header_field
from sealwright.server.http2.fields import Fields
from sealwright.server.http2.session import MalformedError

MAX_METADATA_BYTES: Final = 16 * 1024
"""Most bytes of header fields, as RFC 9113 §6.5.2 counts them: 32 more for each."""
_FIELD_BYTES: Final = 32
_PSEUDO: Final = frozenset({b":method", b":scheme", b":path", b":authority"})
_NEEDED: Final = frozenset({b":method", b":scheme", b":path"})
_OF_A_CONNECTION: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_BAD_VALUE = re.compile(rb"[\0\r\n]")
_CONTENT_TYPE = re.compile(rb"application/grpc(\+proto)?[ \t]*(;.*)?", re.IGNORECASE)
"""A media type: RFC 9110 §8.3.1."""
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
ENCODINGS: Final = frozenset({b"identity", b"gzip", b"deflate"})

_UNSUPPORTED_MEDIA_TYPE: Final = b"\x08\x03415"
"""`:status` 415 with an indexed name (RFC 7541 §6.2.2 and appendix A)."""


class Refusal(NamedTuple):
    """Why a request cannot be served as a call.

    Attributes:
        block: The header fields of the whole answer, for those who do not speak gRPC; empty: a status of gRPC.
        code: The status code.
        message: The status message.
    """

    block: bytes
    code: int
    message: str


class Head(NamedTuple):
    """What the header fields of a call say.

    Attributes:
        path: The service and the method.
        timeout: Seconds until the caller's deadline; None: it has none.
        encoding: How messages are compressed that say so.
        refusal: Why the call cannot be served; None: it can.
    """

    path: str
    timeout: float | None
    encoding: bytes
    refusal: Refusal | None


_TOO_LONG: Final = Refusal(b"", Code.RESOURCE_EXHAUSTED, f"the metadata has more than {MAX_METADATA_BYTES} bytes")
UNKNOWN_METHOD: Final = Refusal(b"", Code.UNIMPLEMENTED, "there is no such method")
TOO_LONG: Final = Head("", None, b"identity", _TOO_LONG)
"""Stands for header fields that are too long to be read."""


def read_head(fields: Fields) -> Head:
    """Read the header fields of a request.

    Raises:
        MalformedError: They are not those of a request.
    """
    values: dict[bytes, bytes] = {}
    size, regular = 0, False
    for name, value in fields:
        size += len(name) + len(value) + _FIELD_BYTES
        if name[:1] == b":":
            if regular or name not in _PSEUDO or name in values:
                raise MalformedError
        else:
            regular = True
            if not _NAME.fullmatch(name) or name in _OF_A_CONNECTION:
                raise MalformedError
        if _BAD_VALUE.search(value):
            raise MalformedError
        values.setdefault(bytes(name), bytes(value))
    if not values.keys() >= _NEEDED or values.get(b"te", b"trailers") != b"trailers" or values[b":path"][:1] != b"/":
        raise MalformedError
    timeout, refusal = None, _refusal(values, size)
    if (text := values.get(b"grpc-timeout")) is not None:
        if match := _TIMEOUT.fullmatch(text):
            timeout = int(match[1]) * _UNITS[match[2]]
        else:
            refusal = refusal or Refusal(b"", Code.INTERNAL, "grpc-timeout is malformed")
    return Head(values[b":path"].decode("latin-1"), timeout, values.get(b"grpc-encoding", b"identity"), refusal)


def _refusal(values: dict[bytes, bytes], size: int) -> Refusal | None:
    if values[b":method"] != b"POST" or not _CONTENT_TYPE.fullmatch(values.get(b"content-type", b"")):
        return Refusal(_UNSUPPORTED_MEDIA_TYPE, Code.UNKNOWN, "")
    if size > MAX_METADATA_BYTES:
        return _TOO_LONG
    if values.get(b"grpc-encoding", b"identity") not in ENCODINGS:
        return Refusal(b"", Code.UNIMPLEMENTED, "grpc-encoding is not supported")
    return None


BEGIN: Final = b"\x88" + header_field(b"content-type", b"application/grpc")
"""Begins each answer."""
OK: Final = header_field(b"grpc-status", b"0")
"""Ends an answer without an error."""
_ACCEPTED: Final = header_field(b"grpc-accept-encoding", b"identity,deflate,gzip")


def status_block(code: int, message: str, details: Iterable[bytes] = (), *, first: bool) -> bytes:
    """Return the header fields that end a call that has failed.

    Args:
        code: The status code.
        message: The status message.
        details: A `google.rpc.Status`, in base64 (gRPC over HTTP/2, "Binary header").
        first: Whether nothing of the answer has been sent.
    """
    parts = [BEGIN] if first else []
    parts.append(header_field(b"grpc-status", b"%d" % code))
    if message:
        parts.append(header_field(b"grpc-message", _percent_encoded(message)))
    if first and code == Code.UNIMPLEMENTED:
        parts.append(_ACCEPTED)
    parts += [header_field(b"grpc-status-details-bin", text) for text in details]
    return b"".join(parts)


def _percent_encoded(text: str) -> bytes:
    """Return a status message as its header field has it: what is not printable ASCII, and `%`, is encoded."""
    data = text.encode("utf-8", "replace")
    return _UNPRINTABLE.sub(lambda match: b"%%%02X" % match[0][0], data)


_UNPRINTABLE = re.compile(rb"[^ -$&-~]")
