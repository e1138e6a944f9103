"""What `sealwright dev` can run on: commands of `sealwright-testing` that emulate a KMS, or create a token of SoftHSM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from sealwright.errors import ConfigurationError

Ready = Mapping[str, str]
"""The line of JSON that a command prints when its backend is ready."""


@dataclass(frozen=True, slots=True)
class Backend:
    """A row of the table.

    Attributes:
        title: What it is, for people.
        settings: Returns the provider's table in the configuration. It may write files to the directory.
        environment: Returns environment variables that the provider or its library needs.
        options: Options of the command.
    """

    title: str
    settings: Callable[[Ready, Path], dict[str, Any]]
    environment: Callable[[Ready], dict[str, str]] = lambda _ready: {}
    options: tuple[str, ...] = ("--port", "0")


def _written(path: Path, text: str) -> str:
    path.write_text(text, encoding="ascii")
    return str(path)


BACKENDS: Final = MappingProxyType(
    {
        "aws": Backend(
            "an emulated AWS KMS",
            lambda ready, _directory: {"kind": "aws", "region": "eu-west-1", "endpoint_url": ready["endpoint"]},
            lambda _ready: {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"},
        ),
        "gcp": Backend(
            "an emulated Google Cloud KMS",
            lambda ready, _directory: {
                "kind": "gcp",
                "project": "dev",
                "location": "europe-west1",
                "key_ring": "tokens",
                "endpoint": ready["endpoint"].removeprefix("http://"),
                "insecure_endpoint": True,
            },
            options=("--port", "0", "--project", "dev", "--key-ring", "tokens"),
        ),
        "azure": Backend(
            "an emulated Azure Key Vault",
            lambda ready, directory: {
                "kind": "azure",
                "vault_url": ready["vault_url"],
                "credential": "client_secret",
                "tenant_id": ready["tenant_id"],
                "client_id": ready["client_id"],
                "client_secret_file": _written(directory / "client-secret", "test"),
                "authority": ready["endpoint"],
                "ca_file": ready["ca"],
            },
        ),
        "pkcs11": Backend(
            "a token of SoftHSM",
            lambda ready, _directory: {
                "kind": "pkcs11",
                **{name: ready[name] for name in ("module", "token_label", "pin_file")},
            },
            lambda ready: {"SOFTHSM2_CONF": ready["softhsm2_conf"]},
            options=(),
        ),
    }
)
"""By kind of provider, which is also the name of the subcommand of `sealwright-emulator`."""


@contextmanager
def running(kind: str, directory: Path) -> Iterator[dict[str, Any]]:
    """Run a backend, set its environment variables in this process, and return the provider's table.

    Args:
        kind: A key of BACKENDS.
        directory: For the command's log.

    Raises:
        ConfigurationError: The backend does not start; the problem says why.
    """
    backend = BACKENDS[kind]
    if find_spec("sealwright_testing") is None:
        raise ConfigurationError([f"{backend.title} needs another package; run: pip install sealwright-testing"])
    log = directory / "backend.log"
    command = (sys.executable, "-m", "sealwright_testing", kind, *backend.options)
    with log.open("wb") as written:
        # In its own session, so that Ctrl-C does not reach it: the service must drain before its KMS ends.
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=written, start_new_session=True)  # noqa: S603
    try:
        line = process.stdout.readline() if process.stdout else b""
        if not line:
            process.wait()
            last = log.read_text(errors="replace").strip().rpartition("\n")[2].removeprefix("Error: ")
            raise ConfigurationError([f"{backend.title} did not start: {last or 'it gave no reason'}"])
        ready = json.loads(line)
        os.environ.update(backend.environment(ready))
        yield backend.settings(ready, directory)
    finally:
        process.terminate()
        process.wait()
        if process.stdout:
            process.stdout.close()
