"""The admin listener: for operators alone, on loopback."""

from __future__ import annotations

from collections.abc import Iterator

from sealwright import metrics
from sealwright.keys import lifecycle
from sealwright.keys.keyring import Keyring
from sealwright.server.http.public import Page, PublicPages

_HEALTH = ("/healthz", "/readyz", "/readyz/jwks")


class AdminPages:
    """Health, as on the public listener, and metrics."""

    def __init__(self, public: PublicPages, keyring: Keyring) -> None:
        self._public = public
        self._keyring = keyring

    def page(self, path: str) -> Page:
        """Return what a path answers."""
        if path == "/metrics":
            body = metrics.exposition(self._gauges)
            return Page(body, {"Content-Type": metrics.CONTENT_TYPE, "Cache-Control": "no-store"})
        return self._public.page(path if path in _HEALTH else "")

    def _gauges(self) -> Iterator[metrics.Family]:
        """Yield what this worker sees now: the same on every worker, but for the age of its read."""
        names = list(self._keyring.settings)
        ready = [((name,), float(self._keyring.can_sign(name))) for name in names]
        yield "sealwright_issuer_can_sign", "1 while the issuer can sign.", ("issuer",), ready
        yield "sealwright_store_age_seconds", "Time since the store was last read.", (), [((), self._store_age())]
        yield "sealwright_keys", "Keys by issuer, series and state.", ("issuer", "series", "state"), self._key_counts()
        yield (
            "sealwright_active_key_age_seconds",
            "Time since the active key of a series took over.",
            ("issuer", "series"),
            self._active_ages(),
        )

    def _store_age(self) -> float:
        return self._keyring.age().total_seconds() if self._keyring.state else float("inf")

    def _key_counts(self) -> Iterator[tuple[tuple[str, ...], float]]:
        state = self._keyring.state
        now = self._keyring.now()
        for issuer in self._keyring.settings.values():
            keys = state.issuers[issuer.name].keys if state and issuer.name in state.issuers else ()
            for series in issuer.series:
                states = [lifecycle.state(k, keys, now) for k in keys if k.series == series.name]
                for one in lifecycle.KeyState:
                    yield (issuer.name, series.name, one.value), float(states.count(one))

    def _active_ages(self) -> Iterator[tuple[tuple[str, ...], float]]:
        state = self._keyring.state
        now = self._keyring.now()
        for issuer in self._keyring.settings.values():
            keys = state.issuers[issuer.name].keys if state and issuer.name in state.issuers else ()
            for series in issuer.series:
                head = lifecycle.active(keys, series.name, now)
                if head is not None:
                    yield (issuer.name, series.name), (now - lifecycle.active_since(keys, head)).total_seconds()
