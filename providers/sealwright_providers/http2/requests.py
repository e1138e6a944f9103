"""Requests under way, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from sealwright_providers.dial import ConnectionDiedError

Fields = Mapping[bytes, bytes]


class Answer(NamedTuple):
    """An answer of the server.

    Attributes:
        fields: Header fields by name; the last one wins. Not to be changed.
        data: Content.
        trailers: Trailer fields, or the header fields where the answer had only those.
    """

    fields: Fields
    data: bytes
    trailers: Fields


class NotProcessedError(ConnectionDiedError):
    """The server says that it did not look at the request (RFC 9113 §8.7), so that it may be sent again."""


class StreamResetError(Exception):
    """The server ended the request alone.

    Attributes:
        code: Its error code.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"the server reset the stream (code {code})")
        self.code = code


class Request:
    """A request under way."""

    __slots__ = ("data", "fields", "size", "stream", "unsent", "waiter", "window")

    def __init__(self, stream: int, waiter: asyncio.Future[Answer], window: int) -> None:
        self.stream = stream
        self.waiter = waiter
        self.window = window
        self.unsent = b""
        self.fields: Fields | None = None
        self.data: list[bytes] = []
        self.size = 0
