"""Who calls: from a gRPC connection to the arrival of a call and the name of its caller."""

from __future__ import annotations

from typing import Any, Final

import grpc

from sealwright.access.identity import LOCAL
from sealwright.calls import Arrival
from sealwright.clock import Clock
from sealwright.errors import CallerUnauthenticatedError
from sealwright.ids import uuid7
from sealwright.server.rpc.caller_certificates import CallerCertificates
from sealwright.server.rpc.unix_front import UnixPeers

Context = grpc.aio.ServicerContext[Any, Any]

DEFAULT_TIMEOUT: Final = 10.0
"""Seconds that a call may take if its caller sets no deadline."""
MAX_TIMEOUT: Final = 60.0
"""Seconds that any call may take."""


class Authentication:
    """Reads arrivals and callers from gRPC contexts."""

    def __init__(
        self, clock: Clock, callers: CallerCertificates, *, local: bool = False, unix: UnixPeers | None = None
    ) -> None:
        """Prepare.

        Args:
            clock: For deadlines.
            callers: Names callers by their certificates.
            local: The listener is plaintext on loopback: every caller is `local`.
            unix: The listener is a Unix socket: who is behind its connections.
        """
        self._clock = clock
        self._callers = callers
        self._local = local
        self._unix = unix

    def arrival(self, method: str, context: Context) -> Arrival:
        """Return the facts about a call that do not depend on its caller.

        Args:
            method: Name of the RPC.
            context: The call.
        """
        # None, which the stubs leave out: the caller set no deadline. 0: the deadline has passed.
        remaining: float | None = context.time_remaining()
        timeout = DEFAULT_TIMEOUT if remaining is None else min(remaining, MAX_TIMEOUT)
        end = self._clock.elapsed() + timeout
        peer = context.peer()
        if self._unix is not None:
            found = self._unix.find(peer)
            peer = "unix:" if found is None else found.address
        return Arrival(method=method, request_id=uuid7(), peer=peer, end=end, left=remaining)

    def caller(self, context: Context) -> str:
        """Return the caller's name.

        Raises:
            CallerUnauthenticatedError: The connection does not identify exactly one caller.
        """
        if self._unix is not None:
            peer = self._unix.find(context.peer())
            if peer is None or peer.caller is None:
                raise CallerUnauthenticatedError("the kernel does not name the user behind this connection")
            return peer.caller
        if self._local:
            return LOCAL
        found = context.auth_context()
        certificates = list(found.get("x509_pem_cert", ()))
        if len(certificates) != 1:
            raise CallerUnauthenticatedError("the connection has no client certificate")
        chain = b"".join(found.get("x509_pem_cert_chain", ()))
        return self._callers.caller(bytes(certificates[0]), chain)
