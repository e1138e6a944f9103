"""Verification of tokens: is this token one of ours, and is it valid now?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NoReturn

from sealwright.access.grants import Authoriser
from sealwright.access.settings import Role
from sealwright.audit.decisions import Decision
from sealwright.errors import RequestInvalidError, TokenInvalidError, Violation
from sealwright.jose import base64url
from sealwright.jose.signatures import verify
from sealwright.jose.strict_json import StrictJsonError, parse_object
from sealwright.keys.issuer import Issuer, SigningKey
from sealwright.keys.keyring import Keyring

_ROLES: Final = frozenset({Role.SIGNER, Role.AUDITOR})
_MAX_TOKEN_BYTES: Final = 128 * 1024
_SEGMENTS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest:
    """A token to verify.

    Attributes:
        token: Compact JWS.
        issuer: Name of the issuer that the token must be from.
        audience: Whom `aud` must name; None: with `skip_audience`.
        skip_audience: Do not check `aud`.
    """

    token: str = field(repr=False)
    issuer: str
    audience: str | None = None
    skip_audience: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedToken:
    """A valid token.

    Attributes:
        claims_json: Its payload, to the byte.
        kid: The key that signed it.
        expire_time: Its `exp`, in seconds since the epoch.
    """

    claims_json: str = field(repr=False)
    kid: str
    expire_time: int


class Verifier:
    """Verifies tokens of its issuers strictly, with the keys that the JWK Set publishes."""

    def __init__(self, *, keyring: Keyring, authoriser: Authoriser, max_clock_error: timedelta) -> None:
        self._keyring = keyring
        self._authoriser = authoriser
        self._leeway = max_clock_error

    def verify(self, decision: Decision, request: VerifyRequest) -> VerifiedToken:
        """Verify a token.

        Args:
            decision: The decision about the call.
            request: The token, and what it must be.

        Raises:
            TokenInvalidError: The token is not valid. `check` in the metadata: `format`, `alg`, `kid`, `typ`, `signature`,
                `issuer`, `times` or `audience`.
            SealwrightError: The request is invalid, or the caller may not make it.
        """
        decision.note(issuer=request.issuer)
        self._authoriser.require(decision.call.caller, _ROLES, request.issuer)
        _check_request(request)
        issuer = self._keyring.fresh(request.issuer)
        try:
            verified = self._verify(issuer, request)
        except TokenInvalidError as error:
            decision.note(check=error.metadata["check"])
            raise
        decision.note(kid=verified.kid)
        return verified

    def _verify(self, issuer: Issuer, request: VerifyRequest) -> VerifiedToken:
        header, payload, signature, signing_input = _parse(request.token)
        key = _key(issuer, header)
        if header.get("typ") not in issuer.settings.token_types or set(header) != {"alg", "kid", "typ"}:
            _refuse("typ", "the header is not one that the issuer writes")
        if key.public_key is None:
            _refuse("alg", "only those who share the secret key can verify this token")
        if not verify(key.public_key, key.algorithm, signing_input, signature):
            _refuse("signature", "the signature is not by the key that the kid names")
        claims = _claims(payload)
        if claims.get("iss") != issuer.settings.url:
            _refuse("issuer", "the token is from another issuer")
        expire_time = self._check_times(claims, issuer.now)
        if not request.skip_audience:
            _check_audience(claims.get("aud"), request.audience)
        return VerifiedToken(claims_json=payload.decode(), kid=key.kid, expire_time=expire_time)

    def _check_times(self, claims: Mapping[str, Any], now: datetime) -> int:
        """Check `exp` without leeway, and `nbf` and `iat` with the largest error of a clock (RFC 7519 §4.1.4 to 4.1.6)."""
        expire_time = claims.get("exp")
        if type(expire_time) is not int or expire_time <= now.timestamp():
            _refuse("times", "the token has expired")
        for name in ("nbf", "iat"):
            start = claims.get(name)
            if name in claims and (type(start) is not int or start > (now + self._leeway).timestamp()):
                _refuse("times", "the token is not valid yet")
        return expire_time


def _refuse(check: str, message: str) -> NoReturn:
    raise TokenInvalidError(message, metadata={"check": check})


def _check_request(request: VerifyRequest) -> None:
    violations: list[Violation] = []
    if (request.audience is not None) == request.skip_audience:
        violations.append(Violation("audience", "give either an audience or skip_audience_check, and not both"))
    if not request.token:
        violations.append(Violation("token", "must be given"))
    if violations:
        raise RequestInvalidError(violations)


def _parse(token: str) -> tuple[dict[str, Any], bytes, bytes, bytes]:
    """Take a compact JWS apart (RFC 7515 §5.2): header, payload, signature, signing input."""
    segments = token.split(".", _SEGMENTS) if len(token) <= _MAX_TOKEN_BYTES and token.isascii() else []
    if len(segments) != _SEGMENTS:
        _refuse("format", "the token is not a compact JWS")
    try:
        header, payload, signature = (base64url.decode(s) for s in segments)
        members = parse_object(header.decode(), "header")
    except (ValueError, StrictJsonError):
        _refuse("format", "the token is not a compact JWS")
    return {m.name: m.value for m in members}, payload, signature, token.rpartition(".")[0].encode("ascii")


def _key(issuer: Issuer, header: Mapping[str, Any]) -> SigningKey:
    """Return the key that the header names, if its algorithm is the header's (RFC 8725 §3.1)."""
    key = issuer.trusted(header.get("kid"))
    if key is None:
        _refuse("kid", "the issuer does not publish this key")
    if header.get("alg") != key.algorithm.name:
        _refuse("alg", "the key is for another algorithm")
    return key


def _claims(payload: bytes) -> dict[str, Any]:
    try:
        text = payload.decode()
        parse_object(text, "claims")
        claims = json.loads(text)
    except (ValueError, StrictJsonError):
        _refuse("format", "the payload is not a strict JSON object")
    return dict(claims)


def _check_audience(claimed: Any, audience: str | None) -> None:
    names = claimed if isinstance(claimed, list) else [claimed]
    if audience not in names:
        _refuse("audience", "the token is for another audience")
