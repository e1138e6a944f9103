"""Settings of issuers and their series."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from sealwright.jose.algorithms import ALGORITHMS, MIN_RSA_BITS
from sealwright.jose.readers import Readers
from sealwright.provider import Protection
from sealwright.settings import Duration, Name, PositiveDuration, Settings
from sealwright.times import SECOND


def _whole_seconds(value: timedelta) -> timedelta:
    if value % SECOND:
        raise ValueError("must be whole seconds")
    return value


def _media_subtype(value: str) -> str:
    """Check a value of `typ`: a media type without its `application/` (RFC 7515 §4.1.9), so without a slash (RFC 6838 §4.2)."""
    if not re.fullmatch(r"[A-Za-z0-9!#$&^_.+-]{1,64}", value):
        raise ValueError("must be a value of `typ` such as at+jwt: 1 to 64 letters, digits or characters of !#$&^_.+-")
    return value


WholeSeconds = Annotated[Duration, AfterValidator(_whole_seconds)]
PositiveWholeSeconds = Annotated[PositiveDuration, AfterValidator(_whole_seconds)]


def readers_lost(series: Sequence[SeriesSettings]) -> Mapping[str, Readers]:
    """Return the libraries that drop the JWK Set of these series, although they can read some of its keys.

    Returns:
        By algorithm whose keys they cannot read. It is empty if the same libraries can read all the keys: then nobody who can use
        one key loses it because of another.
    """
    published = {s.algorithm: ALGORITHMS[s.algorithm] for s in series if not ALGORITHMS[s.algorithm].symmetric}
    if len({algorithm.dropped_by for algorithm in published.values()}) <= 1:
        return {}
    return {name: algorithm.dropped_by for name, algorithm in published.items() if not algorithm.common}


class JwksSettings(Settings):
    """How verifiers may cache an issuer's JWK Set.

    Attributes:
        max_age: A; `Cache-Control: max-age` (RFC 9111 §5.2.2.1), whole seconds.
        stale_if_error: E; `stale-if-error` (RFC 5861 §4), whole seconds; 0: the header does not contain it.
        content_type: Content type of the JWK Set (RFC 7517 §8.5.1). Most clients accept both values, some only one of them.
    """

    max_age: PositiveWholeSeconds = timedelta(minutes=5)
    stale_if_error: WholeSeconds = timedelta(minutes=10)
    content_type: Literal["application/json", "application/jwk-set+json"] = "application/json"


class SeriesSettings(Settings):
    """A queue of keys with one algorithm at one provider.

    Attributes:
        name: Name of the series, unique in its issuer.
        algorithm: JWS algorithm of all its keys.
        provider: Name of the provider that holds them.
        rsa_bits: Size of RSA keys.
        rotation_period: Time for which a key signs before it is rotated; None: operators rotate it.
        min_lead: Shortest time from a key's publication to its first signature.
        destroy_after: Time from a key's withdrawal to its deletion in the KMS; None: it is never deleted.
        create: Whether the service creates keys. It must be true as long as no RPC registers keys made elsewhere.
        protection: Where private keys must be kept; None: the provider's default.
        max_unpublished_keys: Keys that the service may begin to create in 24 hours without publishing them.
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
    max_unpublished_keys: int = Field(default=10, ge=2, le=1000)

    @field_validator("algorithm")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in ALGORITHMS:
            raise ValueError(f"unknown JWS algorithm; must be one of {', '.join(ALGORITHMS)}")
        if not ALGORITHMS[value].available:
            raise ValueError(
                f"the OpenSSL of the installed cryptography has no {value}; "
                "use a cryptography that is linked with OpenSSL 3.5 or newer, such as its wheels on PyPI"
            )
        return value

    @field_validator("rsa_bits")
    @classmethod
    def _bits_for_rsa(cls, value: int, info: ValidationInfo) -> int:
        """Check a size that was given. Pydantic does not validate the default of this field."""
        algorithm = ALGORITHMS.get(info.data.get("algorithm", ""))
        if algorithm is not None and not algorithm.takes_rsa_bits:
            raise ValueError("applies to RS* and PS* only; remove it")
        return value

    @field_validator("create")
    @classmethod
    def _can_get_keys(cls, value: bool) -> bool:  # noqa: FBT001 - a validator
        if not value:
            raise ValueError(
                "must be true: this version has no RPC that registers a key made elsewhere, so the series could never sign"
            )
        return value


class IssuerSettings(Settings):
    """An issuer of tokens: an `iss` URL with its own keys, rules and JWK Set.

    Attributes:
        name: Name of the issuer, as in its resource name `issuers/{name}`.
        url: Value of `iss`, byte for byte. The JWK Set is served under its path.
        max_lifetime: L; `exp` is at most `iat` + L.
        default_lifetime: Lifetime of a token whose request does not contain one.
        max_token_bytes: Largest size of a token, in bytes.
        token_types: Allowed values of the `typ` header; the first is the default.
        caller_chooses_jti: Whether callers may set `jti`.
        migrating: Whether the issuer's URL had another JWK Set before. Its first keys then wait for their lead, like later ones.
        mixed_key_types: Whether the JWK Set may mix in keys that make some libraries drop all of it (ES512, ES256K, EdDSA,
            Ed25519, ML-DSA-*).
        jwks: How verifiers may cache the JWK Set.
        series: Its series, in order of preference.
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
        """Check an issuer URL: https, without query and fragment (OpenID Connect Discovery 1.0 §3, RFC 8414 §2)."""
        try:
            parts = urlsplit(value)
            host = parts.hostname
            _ = parts.port
        except ValueError:
            raise ValueError("must be an absolute https URL") from None
        if parts.scheme.lower() != "https" or not host or parts.username is not None:
            raise ValueError("must be an absolute https URL without user information")
        if "?" in value or "#" in value:
            raise ValueError("must not have a query or a fragment")
        if not re.fullmatch(r"[A-Za-z0-9:/._~!$&'()*+,;=@\[\]-]+", value):
            raise ValueError(
                "must contain only letters, digits and :/._~!$&'()*+,;=@[]-, without spaces and percent-encoding"
            )
        if "//" in parts.path or any(p in {".", "..", ".well-known"} for p in parts.path.split("/")):
            raise ValueError("must not have an empty, `.`, `..` or `.well-known` segment in its path")
        return value

    @field_validator("default_lifetime")
    @classmethod
    def _within_the_longest(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        if value > info.data.get("max_lifetime", timedelta.max):
            raise ValueError("must not be longer than max_lifetime (the default is 10m)")
        return value

    @field_validator("series")
    @classmethod
    def _readable_by_all(cls, value: list[SeriesSettings], info: ValidationInfo) -> list[SeriesSettings]:
        dropped_by = readers_lost(value)
        if dropped_by and not info.data.get("mixed_key_types", True):
            reasons = "; ".join(f"{algorithm}: {', '.join(readers)}" for algorithm, readers in dropped_by.items())
            raise ValueError(
                "some libraries drop the whole JWK Set because of one key that they cannot read "
                f"({reasons}); give such keys an issuer of their own, or set mixed_key_types = true to allow them"
            )
        return value

    @property
    def path(self) -> str:
        """Path under which the JWK Set, discovery and PEM files are served, without a trailing slash."""
        return urlsplit(self.url).path.rstrip("/")
