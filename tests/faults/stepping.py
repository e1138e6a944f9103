"""The command `sealwright`, which asks a test at each of its steps whether it may go on.

Run it as `python -m faults.stepping SOCKET serve --config FILE`. A step is a change of the store, which has a point before its
transaction, one before its commit and one after it, or a call of the KMS, which has one before and one after it. The product has no
such hook: this program puts them around `SqlStore` and `GuardedProvider`. At a point the process is killed or stopped by the test,
or reads a byte and goes on.
"""

from __future__ import annotations

import contextvars
import os
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import wraps
from typing import Any

from sealwright.__main__ import main
from sealwright.keys.lifecycle import Key
from sealwright.keys.ports import Intent, IssuerState
from sealwright.kms.guard import GuardedProvider
from sealwright.sql.store import SqlStore
from sealwright.sql.transactions import Transactions

_step: contextvars.ContextVar[str | None] = contextvars.ContextVar("step", default=None)


class Gate:
    """Our end of the socket."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(path)
        self._lock = threading.Lock()
        self._socket.sendall(f"{os.getpid()}\n".encode())

    def at(self, point: str) -> None:
        """Wait until the process may go on."""
        with self._lock:
            try:
                self._socket.sendall(f"{point}\n".encode())
                goes_on = self._socket.recv(1)
            except OSError:
                goes_on = b""
            if not goes_on:
                os._exit(1)  # the test is over


def changed_times(old: Sequence[Key], new: Sequence[Key]) -> str:
    """Name a change of keys by the times that it writes."""
    before = {k.kid: k for k in old}
    names = {f.name for k in new for f in fields(k) if getattr(k, f.name) != getattr(before[k.kid], f.name)}
    return "keys " + "+".join(sorted(names - {"publish_time"} or names))


def changed_intent(state: IssuerState, intent: Intent) -> str:
    """Name a change of an intent by what it writes."""
    before = next(i for i in state.intents if i.intent_id == intent.intent_id)
    names = {f.name for f in fields(intent) if getattr(intent, f.name) != getattr(before, f.name)}
    names -= {"claimed_by", "public_key", "protection"} if len(names) > 1 else set()
    return "intent " + "+".join(sorted(names))


def _of_store(gate: Gate, method: str, name: Callable[..., str]) -> None:
    original = getattr(SqlStore, method)

    @wraps(original)
    async def gated(self: SqlStore, *args: Any, **options: Any) -> Any:
        step = name(*args)
        gate.at(f"before {step}")
        token = _step.set(step)
        try:
            result = await original(self, *args, **options)
        finally:
            _step.reset(token)
        if result is not False:
            gate.at(f"after {step}")
        return result

    setattr(SqlStore, method, gated)


def _of_commits(gate: Gate) -> None:
    original = Transactions._write

    @wraps(original)
    async def gated(self: Transactions, work: Callable[..., Any], **options: Any) -> Any:
        step = _step.get()

        def then_asked(connection: Any) -> Any:
            result = work(connection)
            if step is not None and result is not False:
                gate.at(f"before the commit of {step}")
            return result

        return await original(self, then_asked, **options)

    Transactions._write = gated  # type: ignore[method-assign]


def _of_kms(gate: Gate, method: str) -> None:
    original = getattr(GuardedProvider, method)

    @wraps(original)
    async def gated(self: GuardedProvider, *args: Any, **options: Any) -> Any:
        gate.at(f"before KMS {method}")
        result = await original(self, *args, **options)
        gate.at(f"after KMS {method}")
        return result

    setattr(GuardedProvider, method, gated)


def install(gate: Gate) -> None:
    """Put a point before and after each step."""
    _of_store(gate, "add_intents", lambda _state, _intents: "record intents")
    _of_store(gate, "change_intent", changed_intent)
    _of_store(gate, "publish", lambda *_: "publish")
    _of_store(gate, "change_keys", lambda state, keys: changed_times(state.keys, keys))
    _of_store(gate, "revoke_all", lambda *_: "revoke a provider")
    _of_commits(gate)
    for method in ("create", "find", "describe", "sign_patiently", "disable", "schedule_deletion"):
        _of_kms(gate, method)


if __name__ == "__main__":
    path = sys.argv.pop(1)
    install(Gate(path))
    main()
