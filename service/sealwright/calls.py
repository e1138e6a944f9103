"""One call: how it arrived, and who makes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A call whose caller is not known yet.

    Attributes:
        method: Name of the RPC (`SignJwt`).
        request_id: Names the call in answers, logs and audit records.
        peer: Network address of the caller, in gRPC's form (`ipv4:127.0.0.1:51422`).
        end: Reading of the stopwatch (`Clock.elapsed`, in seconds) at which the call must be over.
        left: Seconds until its caller's own deadline; None: there is none.
    """

    method: str
    request_id: str
    peer: str
    end: float
    left: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Arrival):
    """An authenticated call.

    Attributes:
        caller: Who makes the call (see `access.identity`).
    """

    caller: str
