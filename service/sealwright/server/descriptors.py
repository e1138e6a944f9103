"""How many connections each listener may have open, so that strangers cannot use up the descriptors of the process."""

from __future__ import annotations

import contextlib
import resource
from dataclasses import dataclass
from typing import Final

from sealwright.server.settings import ServerSettings

_ENOUGH: Final = 65_536
"""The soft limit is not raised above this."""
_USUAL: Final = 1024
"""Assumed where the limit cannot be read: `prlimit64` is forbidden in some sandboxes."""
_LISTENER_SHARE: Final = 4
_ADMIN_SHARE: Final = 16
_ADMIN_CONNECTIONS: Final = 64


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections a listener may have open.

    Attributes:
        total: In all.
        per_address: From one address.
    """

    total: int
    per_address: int


def raise_limit() -> int:
    """Raise the soft limit of open descriptors towards the hard one, and return the limit that now holds."""
    try:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    except (OSError, ValueError):
        return _USUAL
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return _ENOUGH if soft == resource.RLIM_INFINITY else soft


def limits(settings: ServerSettings, descriptors: int) -> dict[str, ConnectionLimits]:
    """Return the limits of the listeners, by name.

    More than a third of the descriptors is kept back for the KMS, the store, the audit and the process itself.

    Args:
        settings: What the configuration asks for.
        descriptors: How many descriptors the process may have open.
    """
    total = min(settings.max_connections, descriptors // _LISTENER_SHARE)
    public = ConnectionLimits(total, min(settings.max_connections_per_address, total))
    admin = min(_ADMIN_CONNECTIONS, descriptors // _ADMIN_SHARE)
    return {"grpc": public, "http": public, "admin": ConnectionLimits(admin, admin)}
