"""The path of a signature: from a request to an audited token."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from sealwright import metrics
from sealwright.access.grants import Authoriser
from sealwright.access.settings import Role
from sealwright.audit.decisions import Decision
from sealwright.clock import Clock
from sealwright.errors import (
    InternalError,
    MessageTooLargeError,
    NoActiveKeyError,
    OverloadedError,
    ProviderError,
    ProviderKeyMissingError,
    ProviderKeyPendingError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
    SealwrightError,
    SignatureRejectedError,
    TokenTooLargeError,
)
from sealwright.ids import uuid7
from sealwright.jose import token as jws
from sealwright.jose.claims import Claims, ClaimsRequest, build_claims
from sealwright.jose.signatures import accepted
from sealwright.keys.health import KEY_ERRORS, KeyHealth
from sealwright.keys.issuer import RETRY_SECONDS, Choice, Issuer, SigningKey
from sealwright.keys.keyring import Keyring
from sealwright.keys.token_counts import TokenCounts
from sealwright.kms.guard import GuardedProvider
from sealwright.provider import RawSignature
from sealwright.turns import Turns

log = logging.getLogger(__name__)

_WITHDRAWN: Final = "the key was withdrawn while it signed"

_UNSEEN: Final = (ProviderKeyMissingError, ProviderKeyPendingError)
"""Errors that a KMS also gives for a moment where its machines do not agree yet."""
_UNSEEN_PAUSES: Final = (0.1, 0.3)
"""Seconds."""

_RESERVE: Final = 1.0
"""Seconds of a caller's deadline that are kept back for each provider that may have to sign in place of a slow one. With less time,
all have the same share of it."""

_FINAL_ERRORS: Final = (SignatureRejectedError, MessageTooLargeError)
"""Errors after which no other key is tried: an alarm, and a message that no key can sign."""


class SignRequest(NamedTuple):
    """What a caller wants signed.

    Attributes:
        issuer: Name of the issuer.
        claims: The claims.
        algorithm: JWS algorithm; None: the issuer's first.
        token_type: `typ`; None: the issuer's first.
    """

    issuer: str
    claims: ClaimsRequest
    algorithm: str | None = None
    token_type: str | None = None

    def __repr__(self) -> str:
        """Return a text without claims."""
        return f"SignRequest(issuer={self.issuer!r}, algorithm={self.algorithm!r}, token_type={self.token_type!r})"


class SignedToken(NamedTuple):
    """A token that may leave.

    Attributes:
        token: Compact JWS.
        kid: The key that signed it.
        algorithm: Its `alg`.
        claims: Its claims.
    """

    token: str
    kid: str
    algorithm: str
    claims: Claims

    def __repr__(self) -> str:
        """Return a text without the token and its claims."""
        return f"SignedToken(kid={self.kid!r}, algorithm={self.algorithm!r})"


class Signer:
    """Signs under rules. There is no database and no lock on this path: it reads one immutable snapshot of the keyring."""

    def __init__(
        self,
        *,
        keyring: Keyring,
        providers: Mapping[str, GuardedProvider],
        authoriser: Authoriser,
        counts: TokenCounts,
        health: KeyHealth,
        clock: Clock,
        turns: Turns,
    ) -> None:
        self._keyring = keyring
        self._providers = providers
        self._authoriser = authoriser
        self._counts = counts
        self._health = health
        self._clock = clock
        self._turns = turns

    async def sign(self, decision: Decision, request: SignRequest) -> SignedToken:
        """Sign a token. Its audit record is durable before this returns.

        Args:
            decision: The decision about the call; this settles it.
            request: What the caller wants.

        Raises:
            SealwrightError: The request is invalid or not permitted, no key may sign, or the KMS failed.
        """
        decision.note(issuer=request.issuer)
        self._authoriser.require(decision.call.caller, {Role.SIGNER}, request.issuer)
        if self._turns.limited:
            await self._turns.take(decision.call.caller)
        issuer = self._keyring.at(request.issuer)
        claims, token_type = self._claims(decision, issuer, request)
        signed = await self._sign_with_first(decision, issuer, issuer.signers(request.algorithm), claims, token_type)
        await decision.allow(lambda: self._require_release(request.issuer, signed.kid))
        self._counts.count(signed.kid, claims.expire_time)
        metrics.tally(metrics.TOKENS, request.issuer, signed.kid).add()
        metrics.distribution(metrics.TOKEN_BYTES, request.issuer).add(len(signed.token))
        return signed

    def _claims(self, decision: Decision, issuer: Issuer, request: SignRequest) -> tuple[Claims, str]:
        """Return the claims and the type of the token, if a grant allows all of it."""
        size, limit = len(request.claims.claims_json), issuer.settings.max_token_bytes
        if size > limit:
            raise TokenTooLargeError(
                f"claims_json has {size} characters; the issuer allows tokens of {limit} bytes",
                metadata={"size": str(size), "limit": str(limit)},
            )
        token_type = issuer.token_type(request.token_type)
        decision.note(token_type=token_type)
        claims = build_claims(request.claims, issuer.claims_policy(), now=issuer.now, jwt_id=uuid7())
        decision.note(
            sub=claims.subject,
            aud=list(claims.audience),
            jti=claims.jwt_id,
            iat=claims.issue_time,
            exp=claims.expire_time,
        )
        self._authoriser.require_signature(
            decision.call.caller,
            issuer.name,
            subject=claims.subject,
            audience=claims.audience,
            token_type=token_type,
        )
        return claims, token_type

    def _require_release(self, name: str, kid: str) -> None:
        """Check on the newest snapshot that a token signed with a key may leave.

        Raises:
            StateTooOldError: The replica has lost contact with the store, or its clock is wrong.
            NoActiveKeyError: The key was revoked while it signed.
        """
        if not self._keyring.trusts(name, kid):
            raise NoActiveKeyError(_WITHDRAWN, retry_after=0)

    async def _sign_with_first(
        self, decision: Decision, issuer: Issuer, choice: Choice, claims: Claims, token_type: str
    ) -> SignedToken:
        """Sign with the first key whose KMS does it. The keys of one algorithm are fallbacks for one another.

        A provider that does not answer or is throttled is not asked again with another of its keys: that would double its load.
        """
        failed: ProviderError | OverloadedError | None = None
        given_up: dict[str, str] = {}
        reasons: dict[str, str] = {}
        refused: list[SigningKey] = []
        for key, others in zip(choice.keys, choice.others, strict=True):
            if key.provider in given_up:
                reasons[key.record.series] = given_up[key.provider]
                continue
            if failed and self._clock.elapsed() >= decision.call.end:
                continue
            end = self._share(decision.call.end, others) if others else decision.call.end
            try:
                signed = await self._sign_with(decision, issuer, key, claims, token_type, end=end, last=not others)
            except (ProviderError, OverloadedError) as error:
                reasons[key.record.series] = error.reason
                if isinstance(error, KEY_ERRORS):
                    refused.append(key)
                if self._gives_up(key, error):
                    given_up[key.provider] = error.reason
                failed = failed or error
            else:
                self._health.signed(key)
                passed = choice.passed_over(key, reasons) if reasons else choice.passed
                if passed:
                    decision.note(passed_over=passed)
                return signed
        if len(choice.ranks) > 1:
            decision.note(passed_over=choice.passed_over(None, reasons))
        raise await self._cause(failed, refused)

    async def _cause(
        self, failed: ProviderError | OverloadedError | None, refused: Sequence[SigningKey]
    ) -> SealwrightError:
        """Return what to tell a caller for whom no key has signed.

        Args:
            failed: The first failure.
            refused: The keys that a KMS does not sign with. If one of them was revoked meanwhile, the caller is to try again.
        """
        if refused and await self._health.revoked(refused):
            return NoActiveKeyError(_WITHDRAWN, retry_after=0)
        if isinstance(failed, _UNSEEN):
            return _unseen(failed)
        return failed or InternalError("there was no key to sign with")

    def _gives_up(self, key: SigningKey, error: ProviderError | OverloadedError) -> bool:
        """Note that a key did not sign. Return whether no other key of its provider is tried.

        Raises:
            ProviderError: The error, if no other key may sign instead.
        """
        if not isinstance(error, MessageTooLargeError | OverloadedError):
            self._health.failed(key, error.reason)
        if isinstance(error, _FINAL_ERRORS):
            raise error
        return not isinstance(error, KEY_ERRORS)

    def _share(self, end: float, others: int) -> float:
        """Return until when a provider may take, so that the others after it have time to sign in its place."""
        now = self._clock.elapsed()
        return end - min((end - now) * others / (others + 1), others * _RESERVE)

    async def _sign_with(
        self,
        decision: Decision,
        issuer: Issuer,
        key: SigningKey,
        claims: Claims,
        token_type: str,
        *,
        end: float,
        last: bool,
    ) -> SignedToken:
        signing_input = jws.signing_input(key.header(token_type), claims.payload)
        size = jws.compact_length(signing_input, key.algorithm.signature_size(key.public_key))
        limit = issuer.settings.max_token_bytes
        if size > limit:
            raise TokenTooLargeError(
                f"the token would have {size} bytes; the issuer allows {limit}",
                metadata={"size": str(size), "limit": str(limit)},
            )
        decision.note(
            kid=key.kid,
            algorithm=key.algorithm.name,
            provider=key.provider,
            signing_input_sha256=hashlib.sha256(signing_input).hexdigest(),
        )
        provider = self._providers.get(key.provider)
        if provider is None:
            raise ProviderUnsupportedError("the provider of the key is not configured")
        raw = await self._ask(provider, key, signing_input, end, caller=decision.call.caller, last=last)
        decision.note(kms_request_id=raw.request_id)
        if self._turns.limited:
            await self._turns.take(decision.call.caller)
        signature = accept(decision.call.request_id, key, signing_input, raw)
        token = jws.compact(signing_input, signature)
        return SignedToken(token=token, kid=key.kid, algorithm=key.algorithm.name, claims=claims)

    async def _ask(
        self, provider: GuardedProvider, key: SigningKey, message: bytes, end: float, *, caller: str, last: bool
    ) -> RawSignature:
        """Ask the KMS for a signature; again, but not for long, if it does not see the key or its state does not permit it.

        Every published key has signed before (keys/trial.py), so that another machine of the KMS may see it.
        """
        for pause in _UNSEEN_PAUSES:
            left = end - self._clock.elapsed()
            try:
                return await provider.sign(key.uri, key.algorithm, message, timeout=left, last=last, caller=caller)
            except _UNSEEN:
                if self._clock.elapsed() + pause >= end or not provider.may_repeat():
                    raise
            await asyncio.sleep(pause)
        left = end - self._clock.elapsed()
        return await provider.sign(key.uri, key.algorithm, message, timeout=left, last=last, caller=caller)


def _unseen(failed: ProviderError) -> ProviderUnavailableError:
    return ProviderUnavailableError(
        "the KMS does not see a key that has signed before, or reports that its state does not permit to sign",
        metadata=failed.metadata,
        retry_after=RETRY_SECONDS,
    )


def accept(request_id: str, key: SigningKey, signing_input: bytes, raw: RawSignature) -> bytes:
    """Return the signature in JOSE form if it was made by the key that is published under the kid.

    Raises:
        SignatureRejectedError: It was not. This is an alarm: the KMS is faulty, or something stands between it and us.
    """
    signature = accepted(raw.value, raw.encoding, key.public_key, key.algorithm, signing_input)
    if signature is not None and raw.key_uri == key.uri:
        return signature
    metrics.SIGNATURES_REJECTED.labels(key.provider).inc()
    log.critical(
        "ALARM: request %s: provider %s returned a signature that is not by key %s (KMS request %s)",
        request_id,
        key.provider,
        key.kid,
        raw.request_id,
    )
    raise SignatureRejectedError(
        "the KMS returned something that is not a signature by the published key", metadata={"provider": key.provider}
    )
