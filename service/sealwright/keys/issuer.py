"""One issuer at one instant: its settings, its state, its keys and `now`.

An `Issuer` answers every question about an issuer from one read of the store and one reading of the clock, so that no caller can
mix two of them. `keyring.at` returns one to show and to publish; `keyring.fresh` returns one to sign with and to change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sealwright.errors import (
    AlgorithmNotSupportedError,
    KeyNotFoundError,
    NoActiveKeyError,
    RequestInvalidError,
    StateTooOldError,
    Violation,
)
from sealwright.issuer_settings import IssuerSettings
from sealwright.jose import base64url
from sealwright.jose.algorithms import ALGORITHMS, Algorithm, PublicKey
from sealwright.jose.claims import ClaimsPolicy
from sealwright.jose.jwk import Jwk, jwk_set, key_id, load_public_key, to_jwk, to_pem
from sealwright.jose.token import header_segment
from sealwright.keys import choice, lifecycle
from sealwright.keys.lifecycle import Key, KeyState, Limits
from sealwright.keys.ports import IssuerState
from sealwright.times import SECOND

RETRY_SECONDS: Final = 1.0
"""When a caller may try again after an error that time can mend."""


class SigningKey:
    """A key with everything that is derived from it once: its parsed public half, its JWK and its headers.

    Attributes:
        record: The key in the store.
        kid: Its kid.
        uri: Its pinned key URI.
        provider: Name of its provider.
        algorithm: Its JWS algorithm.
        public_key: The key that the JWK Set publishes under the kid; None: a secret key, which is never published.
        jwk: Its published form; None: a secret key.
    """

    __slots__ = ("_headers", "algorithm", "jwk", "kid", "provider", "public_key", "record", "uri")

    def __init__(self, record: Key) -> None:
        """Parse a key of the store.

        Raises:
            ValueError: The public key does not belong to the kid.
        """
        self.record = record
        self.kid, self.uri, self.provider = record.kid, record.uri, record.provider
        self.algorithm: Algorithm = ALGORITHMS[record.algorithm]
        self.public_key: PublicKey | None = None if record.public_key is None else load_public_key(record.public_key)
        self.jwk: Jwk | None = None if self.public_key is None else to_jwk(self.public_key, self.algorithm)
        if key_id(record.public_key, record.uri) != record.kid or not self.algorithm.fits(self.public_key):
            raise ValueError("the store has a public key under the kid of another key")
        self._headers: dict[str, str] = {}

    def header(self, token_type: str) -> str:
        """Return the encoded JOSE header of the key's tokens of this type."""
        header = self._headers.get(token_type)
        if header is None:
            header = header_segment(alg=self.algorithm.name, kid=self.kid, typ=token_type)
            self._headers[token_type] = header
        return header


@dataclass(frozen=True, slots=True)
class JwksDocument:
    """A JWK Set as HTTP and gRPC serve it.

    Attributes:
        body: The JSON.
        etag: Strong entity tag (RFC 9110 §8.8.3), with its quotes. It depends on the body alone.
        max_age: Seconds.
        cache_control: Constant. A max-age that counts down would make all verifiers fetch in the same instant.
        algorithms: The JWS algorithms of its keys, in the order of the issuer's series.
        pem: Each key by kid as PEM (RFC 7468 §13), for verifiers that do not read JWK Sets.
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


class Choice(NamedTuple):
    """The keys that may sign with one algorithm.

    Attributes:
        keys: The active key of each series that may sign, best first.
        others: For each of them, how many other providers have keys after it.
        skipped: Each series that must not sign, or only after others, and why: a reason of `keys/choice.py`.
        ranks: The rank of each series by name, in the order of the configuration.
        passed: What `passed_over` returns if the first key signs.
    """

    keys: Sequence[SigningKey]
    others: Sequence[int]
    skipped: Mapping[str, str]
    ranks: Mapping[str, int]
    passed: Sequence[str] = ()

    def passed_over(self, signer: SigningKey | None, failed: Mapping[str, str]) -> list[str]:
        """Return the series that did not sign although they come before the one that did, and why, as texts for the audit.

        Args:
            signer: The key that signed; None: none did.
            failed: Why series did not sign that were asked.
        """
        last = len(self.ranks) if signer is None else self.ranks[signer.record.series]
        reasons = {name: reason for name, reason in self.skipped.items() if self.ranks[name] < last} | dict(failed)
        return [f"{name}: {reasons[name]}" for name in self.ranks if name in reasons]


class DocumentCache:
    """The newest JWK Set, signers and rules of an issuer in one snapshot, so that they are made once and not for each request."""

    __slots__ = ("choices", "choices_until", "claims_policy", "document", "kids", "signers", "signers_until")

    def __init__(self) -> None:
        self.choices: dict[str, Choice] = {}
        self.choices_until: datetime | None = None
        self.kids: tuple[str, ...] | None = None
        self.claims_policy: ClaimsPolicy | None = None
        self.document: JwksDocument | None = None
        self.signers: list[SigningKey] | None = None
        self.signers_until: datetime | None = None


class Issuer(NamedTuple):
    """One issuer at one instant. Three are made for each token, and a tuple takes a third of the time of a frozen dataclass.

    Attributes:
        settings: What the configuration says.
        state: What the newest confirmed read of the store gave.
        keys: The keys of the state by kid, ready to use.
        now: The instant, by the store's clock.
        age: Seconds since the start of the newest confirmed read.
        stale: Why this read must not be used to sign or to change keys; None: it may be used.
        cache: Where `document` keeps its result.
        verifier_refresh: How long a verifier may keep a set, whatever it was told.
    """

    settings: IssuerSettings
    state: IssuerState
    keys: Mapping[str, SigningKey]
    now: datetime
    age: float
    stale: str | None
    cache: DocumentCache
    verifier_refresh: timedelta = timedelta()

    @property
    def name(self) -> str:
        """Name of the issuer."""
        return self.settings.name

    @property
    def limits(self) -> Limits:
        """The limits in the store's row. The replica obeys these, whatever its own file says."""
        return self.state.limits

    def require_fresh(self) -> None:
        """Refuse to go on if this read must not be used to sign or to change keys.

        Raises:
            StateTooOldError: The newest confirmed read is older than S, or the clock is wrong by more than `max_clock_error`.
        """
        if self.stale is not None:
            raise StateTooOldError(self.stale, retry_after=RETRY_SECONDS)

    def signers(self, algorithm: str | None = None) -> Choice:
        """Return the active keys of the series with an algorithm, in order of preference.

        There is one per series: a standby signs when the head is retired or revoked, and not because the KMS refuses the head
        (docs/decisions/0004). Keys with a lower protection than the one that signs normally are left out (keys/choice.py).

        Args:
            algorithm: JWS algorithm; None: that of the issuer's first series.

        Raises:
            StateTooOldError: The read must not be used to sign.
            AlgorithmNotSupportedError: No series of the issuer has the algorithm.
            NoActiveKeyError: No key of the algorithm may sign now.
        """
        self.require_fresh()
        series = self.settings.series
        wanted = algorithm or series[0].algorithm
        found = self.choice(wanted)
        if not found.ranks:
            raise AlgorithmNotSupportedError(
                "no series of the issuer signs with this algorithm",
                metadata={"algorithms": ",".join(dict.fromkeys(s.algorithm for s in series))},
            )
        if not found.keys:
            raise NoActiveKeyError("no key of the issuer may sign now", retry_after=RETRY_SECONDS)
        return found

    def choice(self, algorithm: str) -> Choice:
        """Return the keys that may sign with an algorithm, however old the read is. It is found out once for each snapshot."""
        cache = self.cache
        if cache.choices_until is not None and cache.choices_until <= self.now:
            cache.choices, cache.choices_until = {}, None
        found = cache.choices.get(algorithm)
        if found is None:
            found = self._choose(algorithm)
            if found.ranks:
                cache.choices[algorithm] = found
                # Nothing else changes with time alone: a key is retired or revoked in another snapshot.
                times = [t for k in self.state.keys for t in (k.ready_time, self.settle_time(k)) if t and t > self.now]
                cache.choices_until = min(times, default=None)
        return found

    def _choose(self, algorithm: str) -> Choice:
        order = [s.name for s in self.settings.series if s.algorithm == algorithm]
        heads: dict[str, SigningKey] = {}
        for key in lifecycle.signers(self.state.keys, self.now, order):
            if key.algorithm == algorithm:
                heads.setdefault(key.series, self.keys[key.kid])
        skipped = {name: choice.NO_ACTIVE_KEY for name in order if name not in heads}
        normal = choice.normal(self.state.keys, self.now, order)
        for name, head in heads.items():
            reason = None if normal is None else choice.objection(head.record, normal)
            if reason is not None:
                skipped[name] = reason
        able = [k for name, k in heads.items() if name not in skipped]
        settled = {k.kid for k in able if not self._hasty(k, first=k is able[0])}
        found = sorted(able, key=lambda k: k.kid not in settled)
        if settled:
            skipped |= {k.record.series: choice.NOT_SETTLED for k in able if k.kid not in settled}
        others = [len({k.provider for k in found[i:]} - {key.provider}) for i, key in enumerate(found)]
        made = Choice(found, others, skipped, {name: rank for rank, name in enumerate(order)})
        return made._replace(passed=made.passed_over(found[0], {})) if found else made

    def settle_time(self, key: Key) -> datetime:
        """Return when verifiers have a key that keep a set for `verifier_refresh`.

        For the keys of the very first set that is at once: before it there was no set to keep.
        """
        first = self.state.first_publish_time
        if first is not None and key.publish_time <= first:
            return key.publish_time
        return key.publish_time + self.limits.settling(self.verifier_refresh)

    def _hasty(self, key: SigningKey, *, first: bool) -> bool:
        """Return whether another key should sign if it can, because verifiers that look seldom do not have this one yet.

        A key of the first series that a rotation has put in its place signs nevertheless: that was decided.
        """
        if self.settle_time(key.record) <= self.now:
            return False
        return not first or not rotated_in(self.state.keys, key.record)

    def possible_signers(self) -> list[SigningKey]:
        """Return the active key of each series, whatever its algorithm and however old the read is."""
        cache = self.cache
        if cache.signers is None or (cache.signers_until is not None and cache.signers_until <= self.now):
            heads: dict[str, SigningKey] = {}
            for key in lifecycle.signers(self.state.keys, self.now, [s.name for s in self.settings.series]):
                heads.setdefault(key.series, self.keys[key.kid])
            cache.signers = list(heads.values())
            coming = [k.ready_time for k in self.state.keys if k.ready_time and k.ready_time > self.now]
            cache.signers_until = min(coming, default=None)
        return cache.signers

    def key(self, kid: str) -> SigningKey:
        """Return a key, whatever its state.

        Raises:
            KeyNotFoundError: The issuer does not have the key.
        """
        found = self.keys.get(kid)
        if found is None:
            raise KeyNotFoundError("the issuer does not have this key")
        return found

    def trusted(self, kid: object) -> SigningKey | None:
        """Return the key of that kid if its tokens are valid: it is published, or it is a secret key that would be."""
        key = self.keys.get(kid) if isinstance(kid, str) else None
        return key if key is not None and lifecycle.published(key.record, self.now) else None

    def document(self) -> JwksDocument | None:
        """Return the JWK Set; None before the issuer's first key was published, and when the read is too old to be served.

        An issuer without any key, but with a first publication, is one of a store that was lost: an operator has accepted an
        empty one. Verifiers keep what they have until it has new keys.
        """
        if self.state.first_publish_time is None or not self.state.keys:
            return None
        if self.age > self.limits.max_serve_age.total_seconds():
            return None
        kids = tuple(k.kid for k in lifecycle.jwks(self.state.keys, self.now))
        if self.cache.kids != kids:
            self.cache.document = self._document([self.keys[kid] for kid in kids])
            self.cache.kids = kids
        return self.cache.document

    def _document(self, keys: Sequence[SigningKey]) -> JwksDocument:
        max_age = self.limits.max_age // SECOND
        stale = self.limits.stale_if_error // SECOND
        body = jwk_set(k.jwk for k in keys if k.jwk)
        published = {k.algorithm.name for k in keys if k.jwk}
        order = [*(s.algorithm for s in self.settings.series), *sorted(published)]
        return JwksDocument(
            body=body,
            etag=entity_tag(body),
            max_age=max_age,
            cache_control=f"public, max-age={max_age}" + (f", stale-if-error={stale}" if stale else ""),
            algorithms=sorted(published, key=order.index),
            pem={k.kid: to_pem(k.public_key) for k in keys if k.public_key},
        )

    def token_type(self, asked: str | None) -> str:
        """Return the `typ` of a token.

        Args:
            asked: What the caller asks for; None: the issuer's first.

        Raises:
            RequestInvalidError: The issuer does not allow it.
        """
        allowed = self.settings.token_types
        if asked is None:
            return allowed[0]
        if asked not in allowed:
            raise RequestInvalidError([Violation("token_type", "is not among the issuer's token types")])
        return asked

    def claims_policy(self) -> ClaimsPolicy:
        """Return the issuer's rules for claims.

        A token lives at most as long as the store's limits say, because keys stay published for that long.
        """
        found = self.cache.claims_policy
        if found is None:
            settings = self.settings
            longest = min(settings.max_lifetime, self.limits.max_lifetime)
            found = self.cache.claims_policy = ClaimsPolicy(
                issuer=settings.url,
                default_lifetime=min(settings.default_lifetime, longest),
                max_lifetime=longest,
                caller_chooses_jti=settings.caller_chooses_jti,
            )
        return found

    def state_of(self, key: Key) -> KeyState:
        """Return the state of one of the issuer's keys."""
        return lifecycle.state(key, self.state.keys, self.now)

    def active(self, series: str) -> Key | None:
        """Return the active key of a series; None before its first key is ready."""
        return lifecycle.active(self.state.keys, series, self.now)

    def changed(self, keys: Sequence[Key]) -> list[Key]:
        """Return all keys of the issuer with some of them replaced."""
        new = {k.kid: k for k in keys}
        return [new.get(k.kid, k) for k in self.state.keys]


def rotated_in(keys: Sequence[Key], head: Key) -> bool:
    """Return whether a key signs because its predecessor was retired, and not because that one was revoked."""
    before = [k for k in keys if k.series == head.series and k.ordinal < head.ordinal]
    last = max(before, key=lambda k: k.ordinal, default=None)
    if last is None or last.retire_time is None:
        return False
    return last.revoke_time is None or last.retire_time <= last.revoke_time
