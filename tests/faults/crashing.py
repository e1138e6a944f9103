"""Backends that tell a test when `sealwright serve` is at a certain call of a creation, and which keys they have."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from sealwright_testing.emulators.aws import AwsEmulator, ThreadedAwsEmulator
from sealwright_testing.emulators.azure import AzureEmulator
from sealwright_testing.emulators.azure.emulator import ThreadedAzureEmulator
from sealwright_testing.emulators.gcp import GcpEmulator
from sealwright_testing.pkcs11_faults import Call, KillingModule
from sealwright_testing.softhsm import SoftHsm
from support.four_providers import aws_settings, azure_settings, gcp_settings
from support.processes import Process

INTENT = "sealwright:intent"
_REACHED_SECONDS = 30
_LIST_OBJECTS = """
import json, sys, pkcs11
from pkcs11 import Attribute, ObjectClass
module, label, pin = sys.argv[1:]
found = []
with pkcs11.lib(module).get_token(token_label=label).open(user_pin=pin) as session:
    # By class, since python-pkcs11 cannot read an object that a killed process has not written as a whole.
    for kind in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY, ObjectClass.SECRET_KEY):
        for each in session.get_objects({Attribute.CLASS: kind}):
            found.append([kind.name, each[Attribute.ID].hex(), each[Attribute.LABEL]])
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Point:
    """Where a process is killed.

    Attributes:
        operation: A call of the backend.
        after: Whether the call has taken effect; its answer never arrives.
        both: Whether both keys of the series are at this call. Otherwise one is, and the creation of the other goes on.
        number: PKCS#11: at which call of the function.
    """

    operation: str
    after: bool = False
    both: bool = True
    number: int = 1

    def __str__(self) -> str:
        """Return a name for the test."""
        when = "after" if self.after else "before"
        return f"{when} {self.operation} {self.number}{'' if self.both else ' of one key'}"


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key in the backend.

    Attributes:
        uri: Its key URI.
        intent: Its intent.
        enabled: Whether it can sign; otherwise its deletion is scheduled.
    """

    uri: str
    intent: str
    enabled: bool


class Backend(ABC):
    """A backend of one test."""

    environment: dict[str, str]
    settings: dict[str, Any]

    @abstractmethod
    def crash(self, start: Callable[[], Process], point: Point) -> None:
        """Start a process, and kill it at a point."""

    @abstractmethod
    def keys(self) -> list[FoundKey]:
        """Return all keys, also those whose deletion is scheduled."""


class OfEmulator(Backend):
    """An emulator, whose calls hang where the process is to be killed."""

    def __init__(self, emulator: AwsEmulator | GcpEmulator | AzureEmulator, settings: dict[str, Any]) -> None:
        self.environment = {}
        self.settings = settings
        self._emulator = emulator

    def crash(self, start: Callable[[], Process], point: Point) -> None:
        before = self._emulator.calls.get(point.operation, 0)
        times = {} if point.both else {"times": 1}
        self._emulator.add_fault("hang", operation=point.operation, after=point.after, **times)
        process = start()
        try:
            wait_for(lambda: self._emulator.calls.get(point.operation, 0) > before, process)
            # Let the call take effect, and the other key arrive where it can.
            time.sleep(0.15)
            assert process.popen.poll() is None, process.log.read_text()
            process.signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        finally:
            process.stop()
        self._emulator.clear_faults()

    def keys(self) -> list[FoundKey]:
        match self._emulator:
            case AwsEmulator():
                return [
                    FoundKey(f"awskms:///{k.arn}", k.tags[INTENT], k.state == "Enabled")
                    for k in self._emulator.keys.values()
                ]
            case GcpEmulator():
                return [
                    FoundKey(
                        f"gcpkms://{v.name}", v.name.split("/")[-3].removeprefix("sealwright-"), v.state == "ENABLED"
                    )
                    for v in self._emulator.versions
                ]
            case AzureEmulator():
                host = self._emulator.vault_url.replace("https://", "azurekms://")
                return [
                    FoundKey(f"{host}/keys/{k.name}/{k.version}", k.tags[INTENT], k.enabled and not k.deleted)
                    for k in self._emulator.keys
                ]


class OfToken(Backend):
    """A token of SoftHSM. The module kills the process that calls it."""

    def __init__(self, hsm: SoftHsm, module: str, directory: Path) -> None:
        self._hsm = hsm
        self._module = KillingModule(directory / "cells", hsm.module)
        self.environment = {"SOFTHSM2_CONF": str(hsm.conf), **self._module.environment}
        self.settings = hsm.settings(module=module)
        self._torn = False

    def crash(self, start: Callable[[], Process], point: Point) -> None:
        self._module.kill(Call[point.operation], after=point.after, number=point.number)
        process = start()
        try:
            assert process.wait() == -signal.SIGKILL, process.log.read_text()
        finally:
            process.stop()

    def tear(self, start: Callable[[], Process]) -> None:
        """Start a process, and kill it as soon as the token has begun to write a key."""
        self._torn = True
        before = self._written()
        process = start()
        try:
            end = time.monotonic() + _REACHED_SECONDS
            while self._written() <= before and time.monotonic() < end:
                pass
            process.signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL, process.log.read_text()
            assert self._written() > before, process.log.read_text()
        finally:
            process.stop()

    def _written(self) -> int:
        return sum(1 for _ in self._hsm.tokens.glob("*/*.object"))

    def keys(self) -> list[FoundKey]:
        objects = objects_of(self._hsm)
        halves = {kind: sorted(i for k, i, _ in objects if k == kind) for kind in ("PRIVATE_KEY", "PUBLIC_KEY")}
        assert self._torn or halves["PRIVATE_KEY"] == halves["PUBLIC_KEY"], objects
        # A destroyed key does not exist any more. A private key without a label has no value yet.
        return [FoundKey(i, label, enabled=True) for kind, i, label in objects if kind == "PRIVATE_KEY" and label]


def objects_of(hsm: SoftHsm) -> list[list[str]]:
    """Return the class, the CKA_ID and the label of each object of a token, from a process of its own."""
    listed = subprocess.run(  # noqa: S603 - the script above
        [sys.executable, "-c", _LIST_OBJECTS, hsm.module, hsm.label, hsm.pin],
        env={**os.environ, "SOFTHSM2_CONF": str(hsm.conf)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return list(json.loads(listed.stdout))


def identity(uri: str) -> str:
    """Return what `FoundKey.uri` has for a key URI: for PKCS#11, the CKA_ID alone."""
    if not uri.startswith("pkcs11:"):
        return uri
    attributes = dict(part.split("=", 1) for part in uri.removeprefix("pkcs11:").split(";"))
    return unquote_to_bytes(attributes["id"]).hex()


@contextmanager
def backend(provider: str, directory: Path, module: str, softhsm: str) -> Iterator[Backend]:
    """Start a backend.

    Args:
        provider: Its kind.
        directory: For its files.
        module: PKCS#11: path of the module that fails on demand.
        softhsm: PKCS#11: path of the module of SoftHSM.
    """
    if provider == "aws":
        with ThreadedAwsEmulator() as aws:
            yield OfEmulator(aws, aws_settings(aws))
    elif provider == "gcp":
        with GcpEmulator() as gcp:
            yield OfEmulator(gcp, gcp_settings(gcp))
    elif provider == "azure":
        with ThreadedAzureEmulator() as azure:
            yield OfEmulator(azure, azure_settings(azure, directory))
    else:
        hsm = SoftHsm(softhsm, directory / "softhsm")
        hsm.directory.mkdir()
        hsm.set_up()
        yield OfToken(hsm, module, directory)


def wait_for(condition: Callable[[], bool], process: Process, seconds: float = _REACHED_SECONDS) -> None:
    """Wait until something holds, as long as a process runs."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it did not come about: {process.log.read_text()[-2000:]}"
        assert process.popen.poll() is None, f"the process ended: {process.log.read_text()[-2000:]}"
        time.sleep(0.02)
