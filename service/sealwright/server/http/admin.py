"""The admin listener: for operators alone, on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from sealwright import metrics
from sealwright.keys import lifecycle
from sealwright.keys.keyring import Keyring
from sealwright.keys.readiness import Readiness
from sealwright.server import certificates
from sealwright.server.http.public import Page, PublicPages

_HEALTH = ("/healthz", "/readyz", "/readyz/jwks")


class AdminPages:
    """Health, as on the public listener, and metrics."""

    def __init__(
        self,
        public: PublicPages,
        keyring: Keyring,
        readiness: Readiness,
        undone_disablings: Callable[[], Mapping[str, int]],
        certificate_ends: Callable[[], Mapping[str, datetime]],
    ) -> None:
        self._public = public
        self._keyring = keyring
        self._readiness = readiness
        self._undone_disablings = undone_disablings
        self._certificate_ends = certificate_ends

    def page(self, path: str) -> Page:
        """Return the answer to a path."""
        if path == "/metrics":
            body = metrics.exposition(self._readings)
            return Page(body, {"Content-Type": metrics.CONTENT_TYPE, "Cache-Control": "no-store"})
        return self._public.page(path if path in _HEALTH else "")

    def _readings(self) -> Iterator[metrics.Reading]:
        """Yield what this worker sees now. It is the same on every worker, except for the age of its read."""
        names = [i.name for i in self._keyring.issuers]
        yield metrics.ISSUER_CAN_SIGN, [((name,), float(self._readiness.can_sign(name))) for name in names]
        yield metrics.PROVIDER_UP, [((name,), float(up)) for name, up in self._readiness.providers().items()]
        yield metrics.REVOKED_NOT_DISABLED, [((name,), float(n)) for name, n in self._undone_disablings().items()]
        age = self._keyring.age().total_seconds() if self._keyring.state else float("inf")
        yield metrics.STORE_AGE, [((), age)]
        yield metrics.KEYS, self._key_counts()
        yield metrics.ACTIVE_KEY_AGE, self._active_ages()
        now = certificates.now()
        ends = self._certificate_ends().items()
        yield metrics.CERTIFICATE_EXPIRY, [((name,), (end - now).total_seconds()) for name, end in ends]

    def _key_counts(self) -> Iterator[tuple[tuple[str, ...], float]]:
        for settings in self._keyring.issuers:
            issuer = self._keyring.find(settings.name)
            for series in settings.series:
                keys = [k for k in issuer.state.keys if k.series == series.name] if issuer else []
                states = [issuer.state_of(k) for k in keys] if issuer else []
                for state in lifecycle.KeyState:
                    yield (settings.name, series.name, state.value), float(states.count(state))

    def _active_ages(self) -> Iterator[tuple[tuple[str, ...], float]]:
        for settings in self._keyring.issuers:
            issuer = self._keyring.find(settings.name)
            for series in settings.series:
                head = issuer.active(series.name) if issuer else None
                if issuer is not None and head is not None:
                    since = lifecycle.active_since(issuer.state.keys, head)
                    yield (settings.name, series.name), (issuer.now - since).total_seconds()
