"""The Unix socket that callers connect to, and who they are.

gRPC does not tell who is behind a Unix socket. So this module accepts the connections, asks the kernel (SO_PEERCRED, unix(7)),
and passes the bytes on to gRPC, which listens on a socket in a directory that only this user may enter. Each of our connections to
it has a random name, by which a call finds the credentials of its caller again. A connection without such a name has no caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import stat
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from sealwright.server.descriptors import ConnectionLimits
from sealwright.server.shedding import Shed, Shedding

_UMASK: Final = 0o117
_BACKLOG: Final = 256
_CREDENTIALS: Final = struct.Struct("=iII")
"""`struct ucred`: pid, uid and gid."""
_INNER: Final = ".inner"
_DESCRIPTORS_EACH: Final = 3
_PAUSE_SECONDS: Final = 0.5
_UNKNOWN_UIDS: Final = Path("/proc/sys/kernel/overflowuid")
_USUAL_UNKNOWN_UID: Final = 65_534


@dataclass(frozen=True, slots=True)
class UnixPeer:
    """The process behind a connection, when it connected.

    Attributes:
        address: For the audit.
        caller: The caller's name; None: the kernel does not name the user in this user namespace.
    """

    address: str
    caller: str | None


class UnixPeers:
    """The open connections, by the name that gRPC gives to each of them (`unix-abstract:…`)."""

    def __init__(self) -> None:
        self._known: dict[str, UnixPeer] = {}

    def find(self, name: str) -> UnixPeer | None:
        """Return the process behind a connection of gRPC, or None if it is not one of ours."""
        return self._known.get(name)

    def add(self, name: str, peer: UnixPeer) -> None:
        """Add a connection."""
        self._known[name] = peer

    def remove(self, name: str) -> None:
        """Remove a connection. Calls that come from it later have no caller."""
        self._known.pop(name, None)


class _Half(asyncio.Protocol):
    """One of the two connections; what it reads, the other one writes."""

    def __init__(self) -> None:
        self._other: _Half | None = None
        self._early: list[bytes] = []
        self._wire: asyncio.Transport | None = None
        self.lost = asyncio.get_running_loop().create_future()

    def join(self, other: _Half) -> None:
        """Pass on what was read so far, and from now on."""
        self._other = other
        for data in self._early:
            other.write(data)
        self._early.clear()

    def write(self, data: bytes) -> None:
        """Send data."""
        if self._wire is not None and not self._wire.is_closing():
            self._wire.write(data)

    def close(self) -> None:
        """Close, once what was written has been taken."""
        if self._wire is not None:
            self._wire.close()

    def abort(self) -> None:
        """Close at once."""
        if self._wire is not None:
            self._wire.abort()

    def hold(self, *, back: bool) -> None:
        """Stop reading, or go on."""
        if self._wire is not None and not self._wire.is_closing():
            (self._wire.pause_reading if back else self._wire.resume_reading)()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._wire = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._other is None:
            self._early.append(data)
        else:
            self._other.write(data)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        if self._other is not None:
            self._other.hold(back=True)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        if self._other is not None:
            self._other.hold(back=False)

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002 - asyncio's signature
        """See asyncio.Protocol."""
        if self._other is not None:
            self._other.close()
        if not self.lost.done():
            self.lost.set_result(None)


class UnixFront:
    """Listens on the path of the configuration."""

    def __init__(self, path: str, peers: UnixPeers, limits: ConnectionLimits, shedding: Shedding) -> None:
        self._path = Path(path)
        self._peers = peers
        self._total = max(1, limits.total // _DESCRIPTORS_EACH)
        self._per_user = max(1, min(limits.per_address, self._total))
        self._shedding = shedding
        self._by_user: Counter[int] = Counter()
        self._running: set[asyncio.Task[None]] = set()
        self._listening: socket.socket | None = None
        self._made: os.stat_result | None = None
        self._directory: int | None = None
        self._unknown_uid = _unknown_uid()

    def prepare(self) -> str:
        """Make the directory of gRPC's own socket, and return the address at which gRPC must listen.

        Raises:
            OSError: The directory cannot be made, or belongs to somebody else.
        """
        inner = self._path.with_name(self._path.name + _INNER)
        with contextlib.suppress(FileExistsError):
            inner.mkdir(mode=0o700)
        # By descriptor, since the path may be too long for a socket, and may come to mean another directory.
        self._directory = os.open(inner, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        found = os.fstat(self._directory)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise PermissionError(f"{inner} must belong to this user and be closed to others")
        return f"unix:{self._inner}"

    @property
    def _inner(self) -> str:
        return f"/proc/self/fd/{self._directory}/grpc"

    def start(self) -> None:
        """Listen. A socket that nobody listens on is replaced; `SocketFile` has made sure of that.

        Raises:
            OSError: The path cannot be used.
        """
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(self._path.lstat().st_mode):
                self._path.unlink()
        listening = socket.socket(socket.AF_UNIX)
        before = os.umask(_UMASK)  # the socket must have its final mode when it is created
        try:
            listening.bind(str(self._path))
            listening.listen(_BACKLOG)
        except OSError:
            listening.close()
            raise
        finally:
            os.umask(before)
        listening.settimeout(0)
        self._listening = listening
        self._made = self._path.lstat()
        self._listen()

    def stop(self) -> None:
        """Accept no more. The socket is removed if it is still ours."""
        if self._listening is None:
            return
        asyncio.get_running_loop().remove_reader(self._listening.fileno())
        self._listening.close()
        self._listening = None
        with contextlib.suppress(OSError):
            if self._made is not None and os.path.samestat(self._path.lstat(), self._made):
                self._path.unlink()

    async def close(self) -> None:
        """End all connections."""
        self.stop()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._directory is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._inner)  # noqa: PTH108 - by descriptor
            os.close(self._directory)
            self._directory = None
            with contextlib.suppress(OSError):
                self._path.with_name(self._path.name + _INNER).rmdir()

    def _listen(self) -> None:
        if self._listening is not None:
            asyncio.get_running_loop().add_reader(self._listening.fileno(), self._accept)

    def _accept(self) -> None:
        assert self._listening is not None  # noqa: S101 - for mypy
        try:
            accepted, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:
            self._shedding.count(Shed.DESCRIPTORS)
            asyncio.get_running_loop().remove_reader(self._listening.fileno())
            asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self._listen)
            return
        accepted.settimeout(0)
        pid, uid, _gid = _CREDENTIALS.unpack(
            accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        reason = self._too_many(uid)
        if reason is not None:
            self._shedding.count(reason)
            self._shedding.report()
            accepted.close()
            return
        caller = None if uid == self._unknown_uid else f"unix:uid={uid}"
        peer = UnixPeer(address=f"unix:uid={uid},pid={pid}", caller=caller)
        task = asyncio.create_task(self._serve(accepted, peer))
        self._by_user[uid] += 1
        self._running.add(task)
        task.add_done_callback(lambda done: self._ended(done, uid, accepted))

    def _too_many(self, uid: int) -> Shed | None:
        if self._by_user[uid] >= self._per_user:
            return Shed.ADDRESS_LIMIT
        return Shed.LIMIT if len(self._running) >= self._total else None

    def _ended(self, task: asyncio.Task[None], uid: int, accepted: socket.socket) -> None:
        self._running.discard(task)
        self._by_user[uid] -= 1
        if not self._by_user[uid]:
            del self._by_user[uid]
        accepted.close()

    async def _serve(self, accepted: socket.socket, peer: UnixPeer) -> None:
        """Carry one connection until either side ends it."""
        loop = asyncio.get_running_loop()
        name = f"sealwright-{secrets.token_hex(16)}"
        known = f"unix-abstract:{name}"
        ours = socket.socket(socket.AF_UNIX)
        front, back = _Half(), _Half()
        self._peers.add(known, peer)
        try:
            ours.settimeout(0)
            ours.bind(f"\0{name}")
            await loop.sock_connect(ours, self._inner)
            await loop.create_unix_connection(lambda: back, sock=ours)
            await loop.connect_accepted_socket(lambda: front, accepted)
            front.join(back)
            back.join(front)
            await asyncio.wait({front.lost, back.lost}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({front.lost, back.lost}, timeout=_PAUSE_SECONDS)  # what was written may still be taken
        except OSError:
            pass  # the process has no descriptors left, or gRPC has ended
        finally:
            self._peers.remove(known)
            front.abort()
            back.abort()
            ours.close()


def _unknown_uid() -> int:
    """Return the uid that stands for all users without a number in this user namespace."""
    try:
        return int(_UNKNOWN_UIDS.read_text())
    except (OSError, ValueError):
        return _USUAL_UNKNOWN_UID
