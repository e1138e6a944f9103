"""The keyring: an immutable snapshot of the store that signs and publishes, without a database or a lock on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sealwright.clock import Clock
from sealwright.errors import AlgorithmNotSupportedError, IssuerNotFoundError, NoActiveKeyError, StateTooOldError
from sealwright.jose import base64url
from sealwright.jose.algorithms import ALGORITHMS, Algorithm, PublicKey
from sealwright.jose.jwk import Jwk, jwk_set, key_id, load_public_key, to_jwk, to_pem
from sealwright.jose.token import header_segment
from sealwright.keys import lifecycle
from sealwright.keys.lifecycle import Key, Limits
from sealwright.keys.ports import IssuerState, StoreState
from sealwright.keys.settings import IssuerSettings, TimingSettings

_RETRY_SECONDS: Final = 1.0
_SECOND = timedelta(seconds=1)


class SigningKey:
    """A key with all that is made of it once: its parsed public half, its JWK and its headers.

    Attributes:
        key: The key in the store.
        algorithm: Its JWS algorithm.
        public_key: The very key that the JWK Set publishes under the kid; None: a secret key, which is never published.
        jwk: As it is published; None likewise.
    """

    __slots__ = ("_headers", "algorithm", "jwk", "key", "public_key")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.algorithm: Algorithm = ALGORITHMS[key.algorithm]
        self.public_key: PublicKey | None = None if self.algorithm.symmetric else load_public_key(key.public_key)
        self.jwk: Jwk | None = None if self.public_key is None else to_jwk(self.public_key, self.algorithm)
        if key_id(key.public_key or None, key.uri) != key.kid:
            raise ValueError("the store holds a public key under another key's kid")
        self._headers: dict[str, str] = {}

    def header(self, token_type: str) -> str:
        """Return the encoded JOSE header of the key's tokens of that type."""
        header = self._headers.get(token_type)
        if header is None:
            header = header_segment(alg=self.algorithm.name, kid=self.key.kid, typ=token_type)
            self._headers[token_type] = header
        return header


@dataclass(frozen=True, slots=True)
class JwksDocument:
    """A JWK Set as it is served, over HTTP and gRPC alike.

    Attributes:
        body: The JSON.
        etag: Strong entity tag (RFC 9110 §8.8.3), with its quotes; depends on the body alone.
        max_age: Seconds.
        cache_control: Constant, since a max-age that counts down would send all verifiers here in one instant.
        algorithms: The JWS algorithms of its keys, in the order of the issuer's series.
        pem: Each key by kid, as PEM (RFC 7468 §13), for verifiers that read no JWK Set.
    """

    body: bytes
    etag: str
    max_age: int
    cache_control: str
    algorithms: Sequence[str] = ()
    pem: Mapping[str, bytes] = field(default_factory=dict)


def entity_tag(body: bytes) -> str:
    """Return a strong entity tag (RFC 9110 §8.8.3) that depends on the body alone."""
    return f'"{base64url.encode(hashlib.sha256(body).digest()[:16])}"'


class IssuerView:
    """One issuer in one snapshot."""

    def __init__(self, settings: IssuerSettings, state: IssuerState, keys: Mapping[str, SigningKey]) -> None:
        self.settings = settings
        self.state = state
        self._keys = keys
        self._order = [s.name for s in settings.series]
        self._documents: dict[tuple[str, ...], JwksDocument] = {}

    @property
    def limits(self) -> Limits:
        """The limits of the row that was read: what the replica obeys, whatever its own file says."""
        return self.state.limits

    def default_algorithm(self) -> str:
        """Return the algorithm of the issuer's first series."""
        return self.settings.series[0].algorithm

    def signers(self, algorithm: str, now: datetime) -> list[SigningKey]:
        """Return the active keys of the series with an algorithm, in order of preference.

        One of each series: a standby signs when the head is retired or revoked, and not because the KMS refuses the head.

        Raises:
            AlgorithmNotSupportedError: No series of the issuer has that algorithm.
            NoActiveKeyError: None of its keys may sign now.
        """
        if all(s.algorithm != algorithm for s in self.settings.series):
            raise AlgorithmNotSupportedError(
                "no series of the issuer signs with that algorithm",
                metadata={"algorithms": ",".join(dict.fromkeys(s.algorithm for s in self.settings.series))},
            )
        heads: dict[str, SigningKey] = {}
        for key in lifecycle.signers(self.state.keys, now, self._order):
            if key.algorithm == algorithm:
                heads.setdefault(key.series, self._keys[key.kid])
        if not heads:
            raise NoActiveKeyError("no key of the issuer may sign now", retry_after=_RETRY_SECONDS)
        return list(heads.values())

    def document(self, now: datetime) -> JwksDocument | None:
        """Return the JWK Set; None before the issuer's first key was published."""
        if self.state.first_publish_time is None:
            return None
        kids = tuple(k.kid for k in lifecycle.jwks(self.state.keys, now))
        document = self._documents.get(kids)
        if document is None:
            document = self._document([self._keys[kid] for kid in kids])
            self._documents = {kids: document}
        return document

    def trusted_keys(self, now: datetime) -> dict[str, SigningKey]:
        """Return the keys by kid whose tokens are good: the published ones, and secret ones that would be."""
        return {k.kid: self._keys[k.kid] for k in lifecycle.jwks(self.state.keys, now)}

    def _document(self, keys: Sequence[SigningKey]) -> JwksDocument:
        max_age = self.limits.max_age // _SECOND
        stale = self.limits.stale_if_error // _SECOND
        body = jwk_set(k.jwk for k in keys if k.jwk)
        published = {k.algorithm.name for k in keys if k.jwk}
        return JwksDocument(
            body=body,
            etag=entity_tag(body),
            max_age=max_age,
            cache_control=f"public, max-age={max_age}" + (f", stale-if-error={stale}" if stale else ""),
            algorithms=sorted(published, key=[*(s.algorithm for s in self.settings.series), *sorted(published)].index),
            pem={k.key.kid: to_pem(k.public_key) for k in keys if k.public_key},
        )


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What one confirmed read of the store gave, and when it was confirmed.

    Attributes:
        state: What was read.
        issuers: The same, ready for use.
        started: Stopwatch before the newest read that confirmed the state: staleness counts from there.
        ended: Stopwatch after it.
        time: The store's clock at that read.
        clock_error: By how much this machine's clock was off, at least.
        wall: This machine's clock after the read.
    """

    state: StoreState
    issuers: Mapping[str, IssuerView]
    started: float
    ended: float
    time: datetime
    clock_error: timedelta
    wall: datetime


class Keyring:
    """The snapshot that this replica signs and publishes with.

    `install` and `confirm` replace it; readers never wait. All limits are those of the store's rows.
    """

    def __init__(self, issuers: Sequence[IssuerSettings], timing: TimingSettings, clock: Clock) -> None:
        self.settings = {i.name: i for i in issuers}
        self._timing = timing
        self._clock = clock
        self._snapshot: _Snapshot | None = None
        self._keys: dict[str, SigningKey] = {}

    def install(self, state: StoreState, *, started: float) -> None:
        """Take over a read of the store.

        Args:
            state: What was read.
            started: The stopwatch before the read began.
        """
        keys: dict[str, SigningKey] = {}
        views: dict[str, IssuerView] = {}
        for name, settings in self.settings.items():
            issuer = state.issuers.get(name)
            if issuer is None:
                continue
            for key in issuer.keys:
                known = self._keys.get(key.kid)
                keys[key.kid] = known if known is not None and known.key == key else SigningKey(key)
            views[name] = IssuerView(settings, issuer, keys)
        self._keys = keys
        self._snapshot = self._confirmed(state, views, state.time, started)

    def confirm(self, time: datetime, *, started: float) -> None:
        """Note that the store still is at the revision that was read.

        Args:
            time: The store's clock.
            started: The stopwatch before the question was asked.
        """
        old = self._snapshot
        if old is not None:
            self._snapshot = self._confirmed(old.state, old.issuers, time, started)

    def _confirmed(
        self,
        state: StoreState,
        issuers: Mapping[str, IssuerView],
        time: datetime,
        started: float,
    ) -> _Snapshot:
        wall, ended = self._clock.now(), self._clock.elapsed()
        # The store read its clock somewhere between start and end: what is off by more than that is an error of a clock.
        error = max(time - wall, wall - timedelta(seconds=ended - started) - time, timedelta())
        return _Snapshot(state, issuers, started, ended, time, error, wall)

    def now(self) -> datetime:
        """Return the time that all decisions about keys and tokens go by: the store's, carried on by the stopwatch.

        So a machine whose clock is wrong, or set while it is cut off, neither drops a key early nor signs with one that is not
        ready. It lies behind the store's clock by what a read takes, never ahead.
        """
        if self._snapshot is None:
            return self._clock.now()
        return self._snapshot.time + timedelta(seconds=self._clock.elapsed() - self._snapshot.ended)

    @property
    def state(self) -> StoreState | None:
        """The newest read of the store; None before the first."""
        return self._snapshot.state if self._snapshot else None

    def view(self, name: str) -> IssuerView:
        """Return an issuer.

        Raises:
            IssuerNotFoundError: The configuration has none of that name.
            StateTooOldError: The store has not been read yet.
        """
        if name not in self.settings:
            raise IssuerNotFoundError("no such issuer")
        view = self._snapshot.issuers.get(name) if self._snapshot else None
        if view is None:
            raise StateTooOldError("the store has not been read yet", retry_after=_RETRY_SECONDS)
        return view

    def age(self) -> timedelta:
        """Return the time since the start of the newest confirmed read."""
        if self._snapshot is None:
            return timedelta.max
        return timedelta(seconds=self._clock.elapsed() - self._snapshot.started)

    def require_fresh(self, view: IssuerView) -> None:
        """Refuse to sign, or to change keys, on what may no longer be so.

        Raises:
            StateTooOldError: The newest confirmed read is older than S, or the clock is off by more than `max_clock_error`.
        """
        snapshot = self._snapshot
        if snapshot is None or self.age() > view.limits.max_staleness:
            raise StateTooOldError("the store has not been read for too long", retry_after=_RETRY_SECONDS)
        passed = timedelta(seconds=self._clock.elapsed() - snapshot.ended)
        drift = abs(self._clock.now() - snapshot.wall - passed)
        # The sums of lead and tail hold for clock errors up to half of the K that they were made with.
        if snapshot.clock_error + drift > min(self._timing.max_clock_error, view.limits.verifier_skew / 2):
            raise StateTooOldError("the clock differs from the store's", retry_after=_RETRY_SECONDS)

    def may_release(self, issuer: str, kid: str) -> None:
        """Check once more, on the newest snapshot, that a token signed with a key may leave.

        Raises:
            StateTooOldError: See `require_fresh`.
            NoActiveKeyError: The key has been revoked meanwhile.
        """
        view = self.view(issuer)
        self.require_fresh(view)
        if kid not in view.trusted_keys(self.now()):
            raise NoActiveKeyError("the key was withdrawn while it signed", retry_after=0)

    def document(self, name: str) -> JwksDocument | None:
        """Return the JWK Set of an issuer; None while there is none, or none that is young enough to be served."""
        view = self._snapshot.issuers.get(name) if self._snapshot else None
        if view is None or self.age() > view.limits.max_serve_age:
            return None
        return view.document(self.now())

    def can_sign(self, name: str) -> bool:
        """Tell whether each algorithm of the issuer has a key that may sign now."""
        try:
            view = self.view(name)
            self.require_fresh(view)
            for series in view.settings.series:
                view.signers(series.algorithm, self.now())
        except (StateTooOldError, NoActiveKeyError):
            return False
        return True
