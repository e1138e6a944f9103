"""Settings of timing, issuers and their series."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from sealwright.jose.algorithms import ALGORITHMS, MIN_RSA_BITS
from sealwright.keys.lifecycle import Limits, SeriesPolicy
from sealwright.provider import Protection
from sealwright.settings import Duration, Name, PositiveDuration, Settings

_SECOND = timedelta(seconds=1)


def _whole_seconds(value: timedelta) -> timedelta:
    if value % _SECOND:
        raise ValueError("must be whole seconds")
    return value


def _media_subtype(value: str) -> str:
    """RFC 6838 §4.2, without the slash: `typ` is a media type whose `application/` is left out (RFC 7515 §4.1.9)."""
    if not re.fullmatch(r"[A-Za-z0-9!#$&^_.+-]{1,64}", value):
        raise ValueError("must be a value of `typ` such as at+jwt: 1 to 64 letters, digits and any of !#$&^_.+-")
    return value


WholeSeconds = Annotated[Duration, AfterValidator(_whole_seconds)]
PositiveWholeSeconds = Annotated[PositiveDuration, AfterValidator(_whole_seconds)]


class TimingSettings(Settings):
    """How far clocks, reads of the store and caches may be apart.

    Attributes:
        max_clock_error: A replica signs only while its clock is within this of the store's.
        verifier_skew: K; what the clocks of signers and verifiers may differ by; at least twice `max_clock_error`.
        refresh_interval: Time between two reads of the store.
        max_staleness: S; a replica signs only within this of a confirmed read of the store.
        max_serve_age: How long a replica that is cut off from the store goes on serving its JWK Sets.
    """

    max_clock_error: PositiveDuration = timedelta(seconds=5)
    verifier_skew: PositiveDuration = timedelta(minutes=1)
    refresh_interval: PositiveDuration = timedelta(seconds=1)
    max_staleness: PositiveDuration = timedelta(minutes=15)
    max_serve_age: PositiveDuration = timedelta(hours=24)

    @field_validator("verifier_skew")
    @classmethod
    def _covers_two_clocks(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        if value < 2 * info.data.get("max_clock_error", timedelta()):
            raise ValueError("must be at least twice max_clock_error")
        return value

    @field_validator("max_staleness")
    @classmethod
    def _leaves_time_to_read(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        if value <= info.data.get("refresh_interval", timedelta()):
            raise ValueError("must be longer than refresh_interval")
        return value

    @field_validator("max_serve_age")
    @classmethod
    def _serves_while_it_signs(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        if value < info.data.get("max_staleness", timedelta()):
            raise ValueError("must be at least max_staleness")
        return value


class JwksSettings(Settings):
    """How verifiers may cache an issuer's JWK Set.

    Attributes:
        max_age: A; `Cache-Control: max-age` (RFC 9111 §5.2.2.1), whole seconds.
        stale_if_error: E; `stale-if-error` (RFC 5861 §4), whole seconds; 0: not sent.
        content_type: Of the JWK Set. Some clients refuse the one, some the other (RFC 7517 §8.5.1); most take both.
    """

    max_age: PositiveWholeSeconds = timedelta(minutes=5)
    stale_if_error: WholeSeconds = timedelta(minutes=10)
    content_type: Literal["application/json", "application/jwk-set+json"] = "application/json"


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

    name: Name
    algorithm: str
    provider: str
    rsa_bits: int = Field(default=MIN_RSA_BITS, ge=MIN_RSA_BITS, le=4096, multiple_of=1024, validate_default=False)
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

    @field_validator("rsa_bits")
    @classmethod
    def _bits_for_rsa(cls, value: int, info: ValidationInfo) -> int:
        """Run where it is given alone, since its default is not validated."""
        algorithm = ALGORITHMS.get(info.data.get("algorithm", ""))
        if algorithm is not None and not algorithm.takes_rsa_bits:
            raise ValueError("is for RS* and PS* alone")
        return value

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
        max_lifetime: L; `exp` is at most `iat` + this.
        default_lifetime: Of tokens whose caller names none.
        max_token_bytes: Longest token.
        token_types: Allowed values of the `typ` header; the first is the default.
        caller_chooses_jti: Whether callers may set `jti`.
        migrating: The issuer's URL has had another JWK Set before: its first keys wait for their lead like all others.
        mixed_key_types: Whether the set may hold keys that some common libraries cannot read (secp256k1, OKP).
        jwks: Caching of the JWK Set.
        series: In order of preference.
    """

    name: Name
    url: str
    max_lifetime: PositiveWholeSeconds = timedelta(hours=1)
    default_lifetime: PositiveWholeSeconds = timedelta(minutes=10)
    max_token_bytes: int = Field(default=7168, ge=256, le=64 * 1024)
    token_types: list[Annotated[str, AfterValidator(_media_subtype)]] = Field(default=["JWT", "at+jwt"], min_length=1)
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
        if not re.fullmatch(r"[A-Za-z0-9:/._~!$&'()*+,;=@\[\]-]+", value):
            raise ValueError("must be plain ASCII without spaces, percent escapes and what no URL may hold")
        if "//" in parts.path or any(p in {".", "..", ".well-known"} for p in parts.path.split("/")):
            raise ValueError("must have no empty, dot or .well-known segments in its path")
        return value

    @field_validator("default_lifetime")
    @classmethod
    def _within_the_longest(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        if value > info.data.get("max_lifetime", timedelta.max):
            raise ValueError("must not be longer than max_lifetime (it is 10m where it is not given)")
        return value

    @field_validator("series")
    @classmethod
    def _readable_by_all(cls, value: list[SeriesSettings], info: ValidationInfo) -> list[SeriesSettings]:
        odd = [s.algorithm for s in value if not ALGORITHMS[s.algorithm].common]
        if odd and not info.data.get("mixed_key_types", True) and len({s.algorithm for s in value}) > 1:
            raise ValueError(
                f"{odd[0]} keys make some libraries drop the whole JWK Set; set mixed_key_types = true to mix them in"
            )
        return value

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
