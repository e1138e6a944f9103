"""Who calls: from a connection to the arrival of a call and the name of its caller."""

from __future__ import annotations

from typing import Final

from sealwright.access.identity import LOCAL
from sealwright.calls import Arrival
from sealwright.clock import Clock
from sealwright.errors import CallerUnauthenticatedError
from sealwright.ids import uuid7
from sealwright.server.peers import Peer
from sealwright.server.rpc.call import Call
from sealwright.server.rpc.caller_certificates import CallerCertificates

DEFAULT_TIMEOUT: Final = 10.0
"""Seconds that a call may take if its caller sets no deadline."""
MAX_TIMEOUT: Final = 60.0
"""Seconds that any call may take."""
_LAST_WORDS: Final = 5.0


class Authentication:
    """Reads arrivals and callers from calls and connections."""

    def __init__(self, clock: Clock, callers: CallerCertificates, *, local: bool = False, unix: bool = False) -> None:
        """Prepare.

        Args:
            clock: For deadlines.
            callers: Names callers by their certificates.
            local: The listener is plaintext on loopback: every caller is `local`.
            unix: The listener is a Unix socket: the kernel names the callers.
        """
        self._clock = clock
        self._callers = callers
        self._local = local
        self._unix = unix

    def longest(self, call: Call) -> float:
        """Return the seconds after which a call is ended.

        That is its caller's deadline. Where the deadline is ours, the work knows it too, and has a moment to say what it failed of.
        """
        if call.left is not None and call.left <= MAX_TIMEOUT:
            return call.left
        return (DEFAULT_TIMEOUT if call.left is None else MAX_TIMEOUT) + _LAST_WORDS

    def arrival(self, method: str, call: Call) -> Arrival:
        """Return the facts about a call that do not depend on its caller.

        Args:
            method: Name of the RPC.
            call: The call.
        """
        timeout = DEFAULT_TIMEOUT if call.left is None else min(call.left, MAX_TIMEOUT)
        end = self._clock.elapsed() + timeout
        return Arrival(method=method, request_id=uuid7(), peer=call.peer.address, end=end)

    def caller(self, peer: Peer) -> str:
        """Return the caller's name.

        Raises:
            CallerUnauthenticatedError: The connection does not identify exactly one caller.
        """
        if self._unix:
            if peer.user is None:
                raise CallerUnauthenticatedError("the kernel does not name the user behind this connection")
            return peer.user
        if self._local:
            return LOCAL
        if peer.certificates is None:
            raise CallerUnauthenticatedError("the connection has no client certificate")
        return self._callers.caller(*peer.certificates)
