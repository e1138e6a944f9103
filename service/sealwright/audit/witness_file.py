"""The witness as a file in the directory of the audit: see `keys/witness.py`."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sealwright.audit.file import sync_directory
from sealwright.keys.witness import Fact, Witness, WitnessUnreadableError

NAME: Final = "store-witness.json"
_LOCK: Final = ".store-witness.lock"
_FORMAT: Final = 1
_MODE: Final = 0o640
_MAX_BYTES: Final = 256 * 1024 * 1024
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW

_Identity = tuple[int, int, int, int]


class WitnessFile:
    """See `keys.witness.WitnessStore`. Processes that share the directory share the file."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / NAME
        self._lock = directory / _LOCK
        self._known: tuple[_Identity, Witness] | None = None

    def read(self) -> Witness | None:
        """See `WitnessStore.read`. An unchanged file is not parsed again."""
        try:
            found = self.path.stat()
            identity = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
            if self._known is not None and self._known[0] == identity:
                return self._known[1]
            if found.st_size > _MAX_BYTES:
                raise WitnessUnreadableError("the file is too large")
            witness = _parse(json.loads(self.path.read_bytes()))
        except FileNotFoundError:
            return None
        except OSError as e:
            raise WitnessUnreadableError(e.strerror) from e
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as e:
            raise WitnessUnreadableError("the file is damaged") from e
        self._known = (identity, witness)
        return witness

    def record(self, witness: Witness) -> None:
        """See `WitnessStore.record`."""
        with self._locked():
            known = self.read()
            if known is not None and (known.acceptance != witness.acceptance or known.revision >= witness.revision):
                return
            self._write(witness)

    def replace(self, witness: Witness) -> None:
        """Replace whatever is there.

        Raises:
            OSError: It cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self._write(witness)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = os.open(self._lock, _CREATE, _MODE)
        try:
            self._hand_over(lock)
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _write(self, witness: Witness) -> None:
        """Write a new file and rename it, so that the old one or the new one is there after a crash."""
        new = self.path.with_suffix(".new")
        file = os.open(new, _CREATE | os.O_TRUNC, _MODE)
        try:
            with os.fdopen(file, "wb", closefd=False) as stream:
                stream.write(json.dumps(_document(witness), separators=(",", ":")).encode())
            self._hand_over(file)
            os.fsync(file)
        finally:
            os.close(file)
        new.replace(self.path)
        sync_directory(self.path.parent)

    def _hand_over(self, file: int) -> None:
        """Give a file that root makes to the owner of the directory: an operator's command must not lock the service out."""
        if os.geteuid() == 0:
            owner = self.path.parent.stat()
            os.fchown(file, owner.st_uid, owner.st_gid)


def _document(witness: Witness) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "deployment_id": witness.deployment_id,
        "revision": witness.revision,
        "acceptance": witness.acceptance,
        "blocked": sorted(witness.blocked),
        "keys": {
            issuer: {kid: fact.name.lower() for kid, fact in keys.items()} for issuer, keys in witness.keys.items()
        },
    }


def _parse(document: dict[str, Any]) -> Witness:
    """Return what a file says.

    Raises:
        ValueError: The file has another format.
        TypeError, LookupError, AttributeError: The file is damaged.
    """
    if document["format"] != _FORMAT:
        raise ValueError("unknown format")
    keys = {
        str(issuer): {str(kid): Fact[fact.upper()] for kid, fact in facts.items()}
        for issuer, facts in document["keys"].items()
    }
    return Witness(
        deployment_id=str(document["deployment_id"]),
        revision=int(document["revision"]),
        keys=keys,
        acceptance=str(document["acceptance"]),
        blocked=frozenset(map(str, document.get("blocked", ()))),  # versions before did not write it
    )
