"""Kind A: requests whose end is doubtful, or that hide another one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from faults.strangers import WHOLE, Door

UPGRADE = WHOLE[:-2] + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"


@pytest.mark.parametrize(
    "parts",
    [
        [UPGRADE + WHOLE],
        [UPGRADE, WHOLE],
        [UPGRADE[:-3], UPGRADE[-3:] + WHOLE],
        [UPGRADE[:-1], UPGRADE[-1:] + WHOLE],
        [WHOLE + UPGRADE + WHOLE],
        [WHOLE + UPGRADE + UPGRADE.replace(b"h2c", b"websocket") + WHOLE + UPGRADE],
        [bytes([b]) for b in UPGRADE + WHOLE],
        [WHOLE * 20 + UPGRADE + WHOLE * 20],
    ],
)
async def test_f61_requests_behind_an_upgrade_are_answered(door: Callable[..., Door], parts: list[bytes]) -> None:
    strange = door()
    reader, writer = await asyncio.open_connection(*strange.address.rsplit(":", 1))
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0.01)
    wanted = b"".join(parts).count(b"GET ")
    received = b""
    while received.count(b"HTTP/1.1 200 OK") < wanted:
        received += await asyncio.wait_for(reader.read(65536), 10)
    writer.close()


@pytest.mark.parametrize("coding", [b"chunked", b"identity", b"gzip, chunked"])
@pytest.mark.parametrize("method", [b"GET", b"POST", b"HEAD"])
async def test_f61_http_1_0_with_a_transfer_encoding_is_closed(
    door: Callable[..., Door], method: bytes, coding: bytes
) -> None:
    strange = door()
    request = method + b" /healthz HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: " + coding + b"\r\n\r\n"
    reader, writer = await asyncio.open_connection(*strange.address.rsplit(":", 1))
    writer.write(request + b"0\r\n\r\n" + WHOLE)
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while received := await asyncio.wait_for(reader.read(65536), 10):
            answer += received
    writer.close()
    assert answer.count(b"HTTP/1.") == 1
    assert b"connection: keep-alive" not in answer.lower()
