"""Listening sockets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Any, Final

from sealwright.server.addresses import Address
from sealwright.server.peers import Peer

_BACKLOG: Final = 1024
_NO_SUCH_FAMILY: Final = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
_UMASK: Final = 0o117
_CREDENTIALS: Final = struct.Struct("=iII")
"""`struct ucred`: pid, uid and gid."""
_UNKNOWN_UIDS: Final = Path("/proc/sys/kernel/overflowuid")
_USUAL_UNKNOWN_UID: Final = 65_534


async def listen(address: Address, *, share_port: bool) -> list[socket.socket]:
    """Return a listening socket for each address of a host; `[::]` has one for both families.

    Args:
        address: Host and port. All sockets have the same port, even if it is 0.
        share_port: Whether other workers listen on the same port.

    Raises:
        OSError: It is in use, or is not an address of this machine.
    """
    host, port = address.host, address.port
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with contextlib.ExitStack() as bound:
        sockets: list[socket.socket] = []
        missing: OSError | None = None
        for family, place in dict.fromkeys((f[0], f[4]) for f in found):
            one = (place[0], port or (sockets[0].getsockname()[1] if sockets else 0), *place[2:])
            try:
                listening = socket.create_server(
                    one,
                    family=family,
                    backlog=_BACKLOG,
                    reuse_port=share_port,
                    dualstack_ipv6=address.every_address,
                )
            except OSError as e:
                if e.errno not in _NO_SUCH_FAMILY:
                    raise
                missing = e
                continue
            listening.settimeout(0)
            sockets.append(bound.enter_context(listening))
        if not sockets:
            raise missing or OSError(errno.EADDRNOTAVAIL, "no such address")
        bound.pop_all()
    return sockets


class UnixListener:
    """A listening Unix socket, which only its owner and its group may connect to.

    Attributes:
        socket: Does not block.
    """

    def __init__(self, path: str) -> None:
        """Listen. A socket that nobody listens on is replaced; `SocketFile` has made sure of that.

        Raises:
            OSError: The path cannot be used.
        """
        self._path = Path(path)
        self._unknown_uid = _unknown_uid()
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(self._path.lstat().st_mode):
                self._path.unlink()
        self.socket = socket.socket(socket.AF_UNIX)
        before = os.umask(_UMASK)  # the socket must have its final mode when it is created
        try:
            self.socket.bind(path)
            self.socket.listen(_BACKLOG)
        except OSError:
            self.socket.close()
            raise
        finally:
            os.umask(before)
        self.socket.settimeout(0)
        self._made = self._path.lstat()

    def remove(self) -> None:
        """Remove the file if it is still ours. The socket is closed by whoever accepts from it."""
        with contextlib.suppress(OSError):
            if os.path.samestat(self._path.lstat(), self._made):
                self._path.unlink()

    def peer(self, accepted: socket.socket, _address: Any) -> Peer:
        """Return the user and the process behind a connection, as they were when it connected (SO_PEERCRED, unix(7))."""
        credentials = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _gid = _CREDENTIALS.unpack(credentials)
        user = f"unix:uid={uid}"
        return Peer(f"{user},pid={pid}", user, user=None if uid == self._unknown_uid else user)


def _unknown_uid() -> int:
    """Return the uid that stands for all users without a number in this user namespace."""
    try:
        return int(_UNKNOWN_UIDS.read_text())
    except (OSError, ValueError):
        return _USUAL_UNKNOWN_UID
