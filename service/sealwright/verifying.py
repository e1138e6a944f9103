"""The way back: is this token one of ours, and good now?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NoReturn

from sealwright.access.grants import Authoriser
from sealwright.access.settings import Role
from sealwright.audit.writer import AuditUnavailableError, AuditWriter
from sealwright.calls import Call
from sealwright.errors import (
    CallerNotPermittedError,
    InternalError,
    RequestInvalidError,
    SealwrightError,
    TokenInvalidError,
    Violation,
)
from sealwright.jose import base64url
from sealwright.jose.signatures import verify
from sealwright.jose.strict_json import StrictJsonError, parse_object
from sealwright.keys.keyring import IssuerView, Keyring, SigningKey

_ROLES: Final = frozenset({Role.SIGNER, Role.AUDITOR})
_MAX_TOKEN_BYTES: Final = 128 * 1024
_SEGMENTS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest:
    """A token to be verified.

    Attributes:
        token: Compact JWS.
        issuer: Name of the issuer that it must be from.
        audience: Whom `aud` must name; empty with `skip_audience`.
        skip_audience: Do not look at `aud`.
    """

    token: str = field(repr=False)
    issuer: str
    audience: str = ""
    skip_audience: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedToken:
    """A token that is good.

    Attributes:
        claims_json: Its payload, to the byte.
        kid: The key that signed it.
        expire_time: Its `exp`.
    """

    claims_json: str = field(repr=False)
    kid: str
    expire_time: int


class Verifier:
    """Verifies tokens of its issuers, strictly, with the keys that the JWK Set publishes."""

    def __init__(
        self, *, keyring: Keyring, authoriser: Authoriser, audit: AuditWriter, max_clock_error: timedelta
    ) -> None:
        self._keyring = keyring
        self._authoriser = authoriser
        self._audit = audit
        self._leeway = max_clock_error

    async def verify(self, call: Call, request: VerifyRequest) -> VerifiedToken:
        """Verify a token, and write an audit record of the outcome.

        Raises:
            TokenInvalidError: It is not good. `check` in the metadata: `format`, `alg`, `kid`, `typ`, `signature`, `issuer`,
                `times` or `audience`.
            SealwrightError: The request is wrong, or the caller may not ask.
        """
        try:
            verified = self._verify(call, request)
        except SealwrightError as error:
            outcome = "denied" if isinstance(error, CallerNotPermittedError) else "failed"
            details = {"reason": error.reason, "check": error.metadata.get("check", "")}
            await self._record(call, request.issuer, {"outcome": outcome, **details})
            raise
        await self._record(call, request.issuer, {"outcome": "allowed", "reason": "", "kid": verified.kid})
        return verified

    def _verify(self, call: Call, request: VerifyRequest) -> VerifiedToken:
        self._authoriser.require(call.caller, _ROLES, request.issuer)
        _check_request(request)
        view = self._keyring.view(request.issuer)
        self._keyring.require_fresh(view)
        now = self._keyring.now()
        header, payload, signature, signing_input = _parse(request.token)
        key = _key(view, header, now)
        if header.get("typ") not in view.settings.token_types or set(header) != {"alg", "kid", "typ"}:
            _refuse("typ", "the header is not one of the issuer's")
        if key.public_key is None:
            _refuse("alg", "tokens with a secret key are verified by those who share it")
        if not verify(key.public_key, key.algorithm, signing_input, signature):
            _refuse("signature", "the signature is not by the key that its kid names")
        claims = _claims(payload)
        if claims.get("iss") != view.settings.url:
            _refuse("issuer", "the token is from another issuer")
        expire_time = self._check_times(claims, now)
        if not request.skip_audience:
            _check_audience(claims.get("aud"), request.audience)
        return VerifiedToken(claims_json=payload.decode(), kid=key.key.kid, expire_time=expire_time)

    def _check_times(self, claims: Mapping[str, Any], now: datetime) -> int:
        """Check `exp` without leeway, and `nbf` and `iat` with what clocks of replicas may differ by (RFC 7519 §4.1.4 to 4.1.6)."""
        expire_time = claims.get("exp")
        if type(expire_time) is not int or expire_time <= now.timestamp():
            _refuse("times", "the token has expired")
        for name in ("nbf", "iat"):
            start = claims.get(name)
            if name in claims and (type(start) is not int or start > (now + self._leeway).timestamp()):
                _refuse("times", "the token is not valid yet")
        return expire_time

    async def _record(self, call: Call, issuer: str, details: Mapping[str, Any]) -> None:
        head = {"request_id": call.request_id, "caller": call.caller, "peer": call.peer, "issuer": issuer}
        try:
            await self._audit.write("verify", head | dict(details))
        except AuditUnavailableError:
            raise InternalError("the audit record could not be written") from None


def _refuse(check: str, message: str) -> NoReturn:
    raise TokenInvalidError(message, metadata={"check": check})


def _check_request(request: VerifyRequest) -> None:
    violations: list[Violation] = []
    if bool(request.audience) == request.skip_audience:
        violations.append(
            Violation("audience", "either an audience or skip_audience_check must be given, and not both")
        )
    if not request.token:
        violations.append(Violation("token", "must be given"))
    if violations:
        raise RequestInvalidError(violations)


def _parse(token: str) -> tuple[dict[str, Any], bytes, bytes, bytes]:
    """Take a compact JWS apart (RFC 7515 §5.2): header, payload, signature, signing input."""
    segments = token.split(".")
    if len(segments) != _SEGMENTS or len(token) > _MAX_TOKEN_BYTES or not token.isascii():
        _refuse("format", "the token is no compact JWS")
    try:
        header, payload, signature = (base64url.decode(s) for s in segments)
        members = parse_object(header.decode(), "header")
    except (ValueError, StrictJsonError):
        _refuse("format", "the token is no compact JWS")
    return {m.name: m.value for m in members}, payload, signature, token.rpartition(".")[0].encode("ascii")


def _key(view: IssuerView, header: Mapping[str, Any], now: datetime) -> SigningKey:
    """Return the key that the header names, if its algorithm is the header's (RFC 8725 §3.1)."""
    keys = view.trusted_keys(now)
    kid = header.get("kid")
    key = keys.get(kid) if isinstance(kid, str) else None
    if key is None:
        _refuse("kid", "the issuer publishes no such key")
    if header.get("alg") != key.algorithm.name:
        _refuse("alg", "the key is not for that algorithm")
    return key


def _claims(payload: bytes) -> dict[str, Any]:
    try:
        text = payload.decode()
        parse_object(text, "claims")
        claims = json.loads(text)
    except (ValueError, StrictJsonError):
        _refuse("format", "the payload is no strict JSON object")
    return dict(claims)


def _check_audience(claimed: Any, audience: str) -> None:
    names = claimed if isinstance(claimed, list) else [claimed]
    if audience not in names:
        _refuse("audience", "the token is for somebody else")
