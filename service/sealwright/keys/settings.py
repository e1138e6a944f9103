"""Settings of timing, issuers and their series."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from sealwright.jose.algorithms import ALGORITHMS, MIN_RSA_BITS, Scheme
from sealwright.keys.lifecycle import Limits, SeriesPolicy
from sealwright.kms.provider import Protection
from sealwright.settings import NAME_PATTERN, Duration, PositiveDuration, Settings

_SECOND = timedelta(seconds=1)


def _whole_seconds(value: timedelta) -> timedelta:
    if value % _SECOND:
        raise ValueError("must be whole seconds")
    return value


WholeSeconds = Annotated[Duration, AfterValidator(_whole_seconds)]
PositiveWholeSeconds = Annotated[PositiveDuration, AfterValidator(_whole_seconds)]


class TimingSettings(Settings):
    """How far clocks, reads of the store and caches may be apart.

    Attributes:
        max_clock_error: A replica signs only while its clock is within this of the store's.
        verifier_skew: K; what the clocks of signers and verifiers may differ by; at least twice `max_clock_error`.
        max_staleness: S; a replica signs only within this of a confirmed read of the store.
        max_serve_age: How long a replica that is cut off from the store goes on serving its JWK Sets.
        refresh_interval: Time between two reads of the store.
    """

    max_clock_error: PositiveDuration = timedelta(seconds=5)
    verifier_skew: PositiveDuration = timedelta(minutes=1)
    max_staleness: PositiveDuration = timedelta(minutes=15)
    max_serve_age: PositiveDuration = timedelta(hours=24)
    refresh_interval: PositiveDuration = timedelta(seconds=1)

    @model_validator(mode="after")
    def _consistent(self) -> TimingSettings:
        if self.verifier_skew < 2 * self.max_clock_error:
            raise ValueError("verifier_skew must be at least twice max_clock_error")
        if self.max_staleness <= self.refresh_interval:
            raise ValueError("max_staleness must be longer than refresh_interval")
        if self.max_serve_age < self.max_staleness:
            raise ValueError("max_serve_age must be at least max_staleness")
        return self


class JwksSettings(Settings):
    """How verifiers may cache an issuer's JWK Set.

    Attributes:
        max_age: A; `Cache-Control: max-age` (RFC 9111 §5.2.2.1), whole seconds.
        stale_if_error: E; `stale-if-error` (RFC 5861 §4), whole seconds; 0: not sent.
    """

    max_age: PositiveWholeSeconds = timedelta(minutes=5)
    stale_if_error: WholeSeconds = timedelta(minutes=10)


class SeriesSettings(Settings):
    """A queue of keys of one algorithm at one provider.

    Attributes:
        name: Unique in its issuer.
        algorithm: JWS algorithm of all its keys.
        provider: Name of the provider that holds them.
        rsa_bits: Size of RSA keys.
        rotation_period: Time a key signs before it is rotated; absent: only by hand.
        min_lead: Least time from a key's publication to its first use.
        destroy_after: Time from a key's withdrawal to its deletion in the KMS; absent: never.
        create: Whether keys may be created; where not, they are registered by hand.
        protection: Where private keys must be kept; absent: the provider's default.
    """

    name: str = Field(pattern=NAME_PATTERN)
    algorithm: str
    provider: str
    rsa_bits: int = Field(default=MIN_RSA_BITS, ge=MIN_RSA_BITS, le=4096, multiple_of=1024)
    rotation_period: PositiveDuration | None = None
    min_lead: Duration = timedelta(hours=1)
    destroy_after: Duration | None = None
    create: bool = True
    protection: Annotated[Protection, Field(strict=False)] | None = None

    @field_validator("algorithm")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in ALGORITHMS:
            raise ValueError(f"unknown JWS algorithm; known: {', '.join(ALGORITHMS)}")
        return value

    @model_validator(mode="after")
    def _bits_for_rsa(self) -> SeriesSettings:
        rsa = ALGORITHMS[self.algorithm].scheme in {Scheme.RSA_PKCS1, Scheme.RSA_PSS}
        if "rsa_bits" in self.model_fields_set and not rsa:
            raise ValueError("rsa_bits is for RS* and PS* alone")
        return self

    def policy(self) -> SeriesPolicy:
        """Return what the lifecycle needs to know."""
        return SeriesPolicy(
            name=self.name,
            rotation_period=self.rotation_period,
            min_lead=self.min_lead,
            destroy_after=self.destroy_after,
            create=self.create,
        )


class IssuerSettings(Settings):
    """Who the tokens are from: an `iss` URL with its own keys, rules and JWK Set.

    Attributes:
        name: Stands in resource names: `issuers/{name}`.
        url: `iss`, to the byte; its path is where the JWK Set is served.
        default_lifetime: Of tokens whose caller names none.
        max_lifetime: L; `exp` is at most `iat` + this.
        max_token_bytes: Longest token.
        token_types: Allowed values of the `typ` header; the first is the default.
        caller_chooses_jti: Whether callers may set `jti`.
        migrating: The issuer's URL has had another JWK Set before: its first keys wait for their lead like all others.
        mixed_key_types: Whether the set may hold keys that some common libraries cannot read (secp256k1, OKP).
        jwks: Caching of the JWK Set.
        series: In order of preference.
    """

    name: str = Field(pattern=NAME_PATTERN)
    url: str
    default_lifetime: PositiveWholeSeconds = timedelta(minutes=10)
    max_lifetime: PositiveWholeSeconds = timedelta(hours=1)
    max_token_bytes: int = Field(default=7168, ge=256, le=64 * 1024)
    token_types: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$&^_.+-]{1,64}$")]] = Field(
        default=["JWT", "at+jwt"], min_length=1
    )
    caller_chooses_jti: bool = False
    migrating: bool = False
    mixed_key_types: bool = False
    jwks: JwksSettings = Field(default_factory=JwksSettings)
    series: list[SeriesSettings] = Field(min_length=1)

    @field_validator("url")
    @classmethod
    def _is_issuer_url(cls, value: str) -> str:
        """OpenID Connect Discovery 1.0 §3 and RFC 8414 §2: https, no query, no fragment."""
        try:
            parts = urlsplit(value)
            host = parts.hostname
            _ = parts.port
        except ValueError:
            raise ValueError("must be an absolute https URL") from None
        if parts.scheme.lower() != "https" or not host or parts.username is not None:
            raise ValueError("must be an absolute https URL without user information")
        if "?" in value or "#" in value:
            raise ValueError("must have no query and no fragment")
        if not value.isascii() or any(c.isspace() or not c.isprintable() for c in value) or "%" in parts.path:
            raise ValueError("must be plain ASCII without spaces or percent escapes")
        if "//" in parts.path or any(p in {".", ".."} for p in parts.path.split("/")):
            raise ValueError("must have no empty or dot segments in its path")
        return value

    @field_validator("series")
    @classmethod
    def _names_differ(cls, value: list[SeriesSettings]) -> list[SeriesSettings]:
        names = [s.name for s in value]
        if len(set(names)) != len(names):
            raise ValueError("two series have the same name")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> IssuerSettings:
        if self.default_lifetime > self.max_lifetime:
            raise ValueError("default_lifetime must not be longer than max_lifetime")
        odd = [s.algorithm for s in self.series if not ALGORITHMS[s.algorithm].common]
        if odd and not self.mixed_key_types and len({s.algorithm for s in self.series}) > 1:
            raise ValueError(
                f"{odd[0]} keys make some libraries drop the whole JWK Set; set mixed_key_types = true to mix them in"
            )
        return self

    @property
    def path(self) -> str:
        """Path under which the JWK Set and its kin are served; no trailing slash."""
        return urlsplit(self.url).path.rstrip("/")

    def limits(self, timing: TimingSettings) -> Limits:
        """Return the limits that this configuration asks for."""
        return Limits(
            max_staleness=timing.max_staleness,
            max_age=self.jwks.max_age,
            stale_if_error=self.jwks.stale_if_error,
            max_lifetime=self.max_lifetime,
            verifier_skew=timing.verifier_skew,
            max_serve_age=timing.max_serve_age,
        )
