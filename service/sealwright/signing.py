"""The path of a signature: from a request to an audited token."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sealwright import metrics
from sealwright.access.grants import Authoriser
from sealwright.access.settings import Role
from sealwright.audit.writer import AuditUnavailableError, AuditWriter
from sealwright.calls import Call
from sealwright.clock import Clock
from sealwright.errors import (
    InternalError,
    MessageTooLargeError,
    OverloadedError,
    ProviderAccessDeniedError,
    ProviderError,
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderUnsupportedError,
    RequestInvalidError,
    SealwrightError,
    SignatureRejectedError,
    TokenTooLargeError,
    Violation,
)
from sealwright.ids import uuid7
from sealwright.jose import token as jws
from sealwright.jose.claims import Claims, ClaimsPolicy, ClaimsRequest, build_claims
from sealwright.jose.signatures import SignatureFormatError, normalise, verify
from sealwright.keys.keyring import IssuerView, Keyring, SigningKey
from sealwright.keys.replica import ReplicaSync
from sealwright.kms.guard import GuardedProvider
from sealwright.provider import RawSignature

log = logging.getLogger(__name__)

_KEY_ERRORS: Final = (ProviderKeyDisabledError, ProviderKeyMissingError, ProviderAccessDeniedError)
"""Errors of one key: another key of the same provider may still sign."""

_FINAL_ERRORS: Final = (SignatureRejectedError, MessageTooLargeError)
"""Errors after which no other key is tried: an alarm, and what no other key can mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignRequest:
    """What a caller wants signed.

    Attributes:
        issuer: Name of the issuer.
        claims: The claims.
        algorithm: JWS algorithm; empty: the issuer's first.
        token_type: `typ`; empty: the issuer's first.
    """

    issuer: str
    claims: ClaimsRequest = field(repr=False)
    algorithm: str = ""
    token_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedToken:
    """A token that may leave.

    Attributes:
        token: Compact JWS.
        kid: The key that signed it.
        algorithm: Its `alg`.
        claims: Its claims.
    """

    token: str = field(repr=False)
    kid: str
    algorithm: str
    claims: Claims = field(repr=False)


@dataclass(slots=True)
class _Draft:
    """What is known of a token while it is made, for the audit."""

    issuer: str
    token_type: str = ""
    claims: Claims | None = None
    key: SigningKey | None = None
    signing_input: bytes = b""
    kms_request_id: str | None = None

    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = {"issuer": self.issuer, "token_type": self.token_type}
        if self.claims is not None:
            record |= {
                "sub": self.claims.subject,
                "aud": list(self.claims.audience),
                "jti": self.claims.jwt_id,
                "iat": self.claims.issue_time,
                "exp": self.claims.expire_time,
            }
        if self.key is not None:
            record |= {
                "kid": self.key.key.kid,
                "algorithm": self.key.algorithm.name,
                "provider": self.key.key.provider,
                "signing_input_sha256": hashlib.sha256(self.signing_input).hexdigest(),
                "kms_request_id": self.kms_request_id,
            }
        return record


class Signer:
    """Signs under rules. No database and no lock is on this path: it reads one immutable snapshot of the keyring."""

    def __init__(
        self,
        *,
        keyring: Keyring,
        providers: Mapping[str, GuardedProvider],
        authoriser: Authoriser,
        audit: AuditWriter,
        sync: ReplicaSync,
        clock: Clock,
    ) -> None:
        self._keyring = keyring
        self._providers = providers
        self._authoriser = authoriser
        self._audit = audit
        self._sync = sync
        self._clock = clock
        self._failing: dict[str, str] = {}

    async def sign(self, call: Call, request: SignRequest) -> SignedToken:
        """Sign a token, and write exactly one audit record of the outcome.

        Raises:
            SealwrightError: Whatever the request, the grants, the keys or the KMS are wrong with.
        """
        draft = _Draft(request.issuer)
        try:
            signed = await self._make(call, request, draft)
            await self._record(call, draft, "allowed", "")
        except SealwrightError as error:
            await self._record_refusal(call, draft, error)
            raise
        except asyncio.CancelledError:
            self._audit.submit("sign", self._entry(call, draft, "cancelled", "CANCELLED"))
            raise
        except Exception:
            await self._record_refusal(call, draft, InternalError("the request failed"))
            raise
        try:
            self._keyring.may_release(request.issuer, signed.kid)
        except SealwrightError as error:
            await self._record(call, draft, "withheld", error.reason)
            raise
        self._sync.count(signed.kid, signed.claims.expire_time)
        metrics.TOKENS.labels(request.issuer, signed.kid).inc()
        metrics.TOKEN_BYTES.labels(request.issuer).observe(len(signed.token))
        return signed

    async def _make(self, call: Call, request: SignRequest, draft: _Draft) -> SignedToken:
        self._authoriser.require(call.caller, {Role.SIGNER}, request.issuer)
        view = self._keyring.view(request.issuer)
        draft.token_type = self._token_type(view, request.token_type)
        now = self._keyring.now()
        claims = build_claims(request.claims, self._policy(view), now=now, jwt_id=uuid7())
        draft.claims = claims
        self._authoriser.require_signature(
            call.caller,
            request.issuer,
            subject=claims.subject,
            audience=claims.audience,
            token_type=draft.token_type,
        )
        self._keyring.require_fresh(view)
        keys = view.signers(request.algorithm or view.default_algorithm(), now)
        return await self._sign_with_first(call, view, keys, claims, draft)

    async def _sign_with_first(
        self,
        call: Call,
        view: IssuerView,
        keys: Sequence[SigningKey],
        claims: Claims,
        draft: _Draft,
    ) -> SignedToken:
        """Sign with the first key whose KMS does it; the keys of one algorithm are fallbacks for one another.

        A provider that does not answer or is throttled is not asked again with another of its keys: that would double its load.
        """
        failed: ProviderError | OverloadedError | None = None
        given_up: set[str] = set()
        for key in keys:
            if key.key.provider in given_up or (failed and self._clock.elapsed() >= call.end):
                continue
            try:
                signed = await self._sign_with(call, view, key, claims, draft)
            except (ProviderError, OverloadedError) as error:
                if not isinstance(error, MessageTooLargeError | OverloadedError):
                    self._note(key, error.reason)
                if isinstance(error, _FINAL_ERRORS):
                    raise
                if not isinstance(error, _KEY_ERRORS):
                    given_up.add(key.key.provider)
                failed = failed or error
            else:
                self._note(key, "")
                return signed
        raise failed or InternalError("there was no key to sign with")

    def _note(self, key: SigningKey, reason: str) -> None:
        """Log that a key has begun to fail, or to sign again; not each time."""
        kid = key.key.kid
        if self._failing.get(kid, "") == reason:
            return
        if reason:
            self._failing[kid] = reason
            log.warning("key %s of provider %s does not sign: %s", kid, key.key.provider, reason)
        else:
            del self._failing[kid]
            log.info("key %s of provider %s signs again", kid, key.key.provider)

    async def _sign_with(
        self,
        call: Call,
        view: IssuerView,
        key: SigningKey,
        claims: Claims,
        draft: _Draft,
    ) -> SignedToken:
        signing_input = jws.signing_input(key.header(draft.token_type), claims.payload)
        size = jws.compact_length(signing_input, key.algorithm.signature_size(key.public_key))
        limit = view.settings.max_token_bytes
        if size > limit:
            raise TokenTooLargeError(
                f"the token would have {size} bytes; {limit} are allowed",
                metadata={"size": str(size), "limit": str(limit)},
            )
        draft.key, draft.signing_input = key, signing_input
        provider = self._providers.get(key.key.provider)
        if provider is None:
            raise ProviderUnsupportedError("the key's provider is not configured")
        timeout = call.end - self._clock.elapsed()
        raw = await provider.sign(key.key.uri, key.algorithm, signing_input, timeout=timeout)
        draft.kms_request_id = raw.request_id
        signature = self._accept(call, key, signing_input, raw)
        token = jws.compact(signing_input, signature)
        return SignedToken(token=token, kid=key.key.kid, algorithm=key.algorithm.name, claims=claims)

    def _accept(self, call: Call, key: SigningKey, signing_input: bytes, raw: RawSignature) -> bytes:
        """Return the signature in JOSE form if it was made by the very key that is published under the kid.

        Raises:
            SignatureRejectedError: It was not. An alarm: either the KMS is faulty or something stands between it and us.
        """
        try:
            signature = normalise(raw.value, raw.encoding, key.algorithm)
            sound = raw.key_uri == key.key.uri and _genuine(key, signing_input, signature)
        except SignatureFormatError:
            sound, signature = False, b""
        if not sound:
            metrics.SIGNATURES_REJECTED.labels(key.key.provider).inc()
            log.critical(
                "ALARM: request %s: provider %s answered no signature by key %s (request %s there)",
                call.request_id,
                key.key.provider,
                key.key.kid,
                raw.request_id,
            )
            raise SignatureRejectedError(
                "the KMS's answer is no signature by the published key", metadata={"provider": key.key.provider}
            )
        return signature

    def _token_type(self, view: IssuerView, asked: str) -> str:
        allowed = view.settings.token_types
        if not asked:
            return allowed[0]
        if asked not in allowed:
            raise RequestInvalidError([Violation("token_type", "not among the issuer's token types")])
        return asked

    def _policy(self, view: IssuerView) -> ClaimsPolicy:
        """The issuer's rules. A token lives no longer than the limits in the store say, since keys are kept for that long."""
        settings = view.settings
        longest = min(settings.max_lifetime, view.limits.max_lifetime)
        return ClaimsPolicy(
            issuer=settings.url,
            default_lifetime=min(settings.default_lifetime, longest),
            max_lifetime=longest,
            caller_chooses_jti=settings.caller_chooses_jti,
        )

    async def _record(self, call: Call, draft: _Draft, outcome: str, reason: str) -> None:
        """Write the audit record; without it no token leaves.

        Raises:
            InternalError: It could not be written.
        """
        try:
            await self._audit.write("sign", self._entry(call, draft, outcome, reason))
        except AuditUnavailableError as e:
            log.error("request %s: %s", call.request_id, e)  # noqa: TRY400 - the errno says it all
            raise InternalError("the audit record could not be written") from None

    async def _record_refusal(self, call: Call, draft: _Draft, error: SealwrightError) -> None:
        outcome = "denied" if error.code in {"PERMISSION_DENIED", "UNAUTHENTICATED"} else "failed"
        try:
            await self._record(call, draft, outcome, error.reason)
        except InternalError:
            log.error("request %s: a refusal (%s) is missing in the audit", call.request_id, error.reason)  # noqa: TRY400

    def _entry(self, call: Call, draft: _Draft, outcome: str, reason: str) -> dict[str, Any]:
        head = {
            "request_id": call.request_id,
            "caller": call.caller,
            "peer": call.peer,
            "outcome": outcome,
            "reason": reason,
        }
        return head | draft.record()


def _genuine(key: SigningKey, signing_input: bytes, signature: bytes) -> bool:
    """Verify a signature with the published key. A secret key is in the KMS alone, so there only the form can be checked."""
    if key.public_key is None:
        return len(signature) == key.algorithm.signature_size(None)
    return verify(key.public_key, key.algorithm, signing_input, signature)
