"""The admin listener: for operators alone, on loopback."""

from __future__ import annotations

from sealwright.server.http.public import Page, PublicPages

_HEALTH = ("/healthz", "/readyz", "/readyz/jwks")


class AdminPages:
    """Health, as on the public listener."""

    def __init__(self, public: PublicPages) -> None:
        self._public = public

    def page(self, path: str) -> Page:
        """Return what a path answers."""
        return self._public.page(path if path in _HEALTH else "")
