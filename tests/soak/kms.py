"""A KMS: the emulator as a process, and its switches for faults."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import aiohttp

from support.processes import Process

from .network import Target

_CONTROL = aiohttp.ClientTimeout(total=10)


class Kms:
    """An emulator.

    Attributes:
        name: The name of its provider.
        target: Where it listens.
    """

    def __init__(self, directory: Path, name: str, http: aiohttp.ClientSession) -> None:
        self.name = name
        self._http = http
        self._process = Process(directory, "sealwright-emulator", "aws", "--port", "0")
        self._url: str = self._process.wait_ready()["endpoint"]
        host, _, port = self._url.removeprefix("http://").rpartition(":")
        self.target: Target = (host, int(port))

    async def fault(self, kind: str, **more: Any) -> None:
        """Let calls fail; see the emulator's `Fault`."""
        async with self._http.post(f"{self._url}/_emulator/faults", json={"kind": kind, **more}, timeout=_CONTROL) as a:
            a.raise_for_status()

    async def heal(self) -> None:
        """Let no call fail any more."""
        async with self._http.delete(f"{self._url}/_emulator/faults", timeout=_CONTROL) as answer:
            answer.raise_for_status()

    async def keys(self) -> dict[str, dict[str, Any]]:
        """Return all keys, by ARN."""
        async with self._http.get(f"{self._url}/_emulator/keys", timeout=_CONTROL) as answer:
            return {key["arn"]: key for key in (await answer.json()).values()}

    def pause(self) -> None:
        """Let it hang."""
        self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it."""
        self.resume()
        self._process.stop()
