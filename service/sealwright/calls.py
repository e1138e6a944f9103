"""One call: how it arrived, and who makes it."""

from __future__ import annotations

from typing import NamedTuple


class Arrival(NamedTuple):
    """A call whose caller is not known yet.

    Attributes:
        method: Name of the RPC (`SignJwt`).
        request_id: Names the call in answers, logs and audit records.
        peer: Network address of the caller, in gRPC's form (`ipv4:127.0.0.1:51422`).
        end: Reading of the stopwatch (`Clock.elapsed`, in seconds) at which the call must be over.
    """

    method: str
    request_id: str
    peer: str
    end: float


class Call(NamedTuple):
    """An authenticated call.

    Attributes:
        method: See `Arrival`.
        request_id: See `Arrival`.
        peer: See `Arrival`.
        end: See `Arrival`.
        caller: Who makes the call (see `access.identity`).
    """

    method: str
    request_id: str
    peer: str
    end: float
    caller: str

    def part(self, request_id: str) -> Call:
        """Return one request of a batch as a call of its own."""
        return self._replace(request_id=request_id)
