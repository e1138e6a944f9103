"""Every error that a caller can meet: one tree, each class with a stable reason.

A gRPC interceptor turns these into `google.rpc.Status` (AIP-193). Messages are for people and hold no key URI, account, SDK
text, token or claim value; whatever a program needs is in `reason` and `metadata`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

DOMAIN = "sealwright.dev"
"""The `domain` of every ErrorInfo."""


class Code(StrEnum):
    """Canonical gRPC status codes that Sealwright answers with, by name."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAVAILABLE = "UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with a request.

    Attributes:
        field: Path of the field (`claims_json.role`, `audience[0]`).
        description: What is wrong with it, without its value.
    """

    field: str
    description: str


class SealwrightError(Exception):
    """Base of all errors with a reason.

    Attributes:
        reason: Stable name for programs, `[A-Z][A-Z0-9_]+[A-Z0-9]`.
        code: Canonical gRPC status code.
        message: For people; safe to hand to any caller.
        metadata: For programs; keys in lowerCamelCase, values safe to hand to any caller.
        violations: For INVALID_ARGUMENT: everything that is wrong with the request, at once.
        retry_after: Seconds after which a retry can help; None where it cannot.
    """

    reason: ClassVar[str] = "INTERNAL_ERROR"
    code: ClassVar[Code] = Code.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after = retry_after


class InternalError(SealwrightError):
    """Something failed that the caller cannot mend; the cause is in the service's log under the request id."""


class InvalidRequestError(SealwrightError):
    """Base of what is wrong with a request; never raised itself."""

    code = Code.INVALID_ARGUMENT


class RequestInvalidError(InvalidRequestError):
    """A field is missing, malformed or at odds with another."""

    reason = "REQUEST_INVALID"


class ClaimNotAllowedError(InvalidRequestError):
    """The request sets a claim that the service owns.

    That is `iss`, `iat`, and `jti` unless the issuer lets callers choose it; and every registered claim in another letter case,
    which some verifiers read as the registered one.
    """

    reason = "CLAIM_NOT_ALLOWED"


class LifetimeTooLongError(InvalidRequestError):
    """The token would live longer than the issuer's `max_lifetime`."""

    reason = "LIFETIME_TOO_LONG"


class TokenTooLargeError(InvalidRequestError):
    """The token, or what is to be signed, would be larger than a limit allows."""

    reason = "TOKEN_TOO_LARGE"


class AlgorithmNotSupportedError(InvalidRequestError):
    """No series of the issuer signs with that algorithm."""

    reason = "ALGORITHM_NOT_SUPPORTED"


class TokenInvalidError(InvalidRequestError):
    """The token is not good; metadata `check` says what failed first."""

    reason = "TOKEN_INVALID"


class IssuerNotFoundError(SealwrightError):
    """There is no such issuer."""

    reason = "ISSUER_NOT_FOUND"
    code = Code.NOT_FOUND


class KeyNotFoundError(SealwrightError):
    """The issuer has no such key."""

    reason = "KEY_NOT_FOUND"
    code = Code.NOT_FOUND


class CallerUnauthenticatedError(SealwrightError):
    """The connection does not say unambiguously who calls."""

    reason = "CALLER_UNAUTHENTICATED"
    code = Code.UNAUTHENTICATED


class CallerNotPermittedError(SealwrightError):
    """No grant allows the whole request."""

    reason = "CALLER_NOT_PERMITTED"
    code = Code.PERMISSION_DENIED


class KeyStateInvalidError(SealwrightError):
    """The key's state does not allow what was asked."""

    reason = "KEY_STATE_INVALID"
    code = Code.FAILED_PRECONDITION


class RotationTooEarlyError(SealwrightError):
    """The standby may not sign yet; metadata `earliestTime` (RFC 3339), where it is known, says from when it may."""

    reason = "ROTATION_TOO_EARLY"
    code = Code.FAILED_PRECONDITION


class OverloadedError(SealwrightError):
    """More work is under way than the service takes on; nothing was begun."""

    reason = "OVERLOADED"
    code = Code.RESOURCE_EXHAUSTED


class NoActiveKeyError(SealwrightError):
    """No key of the issuer may sign now."""

    reason = "NO_ACTIVE_KEY"
    code = Code.UNAVAILABLE


class ShuttingDownError(SealwrightError):
    """This replica is about to stop; nothing was begun, and another replica takes the request."""

    reason = "SHUTTING_DOWN"
    code = Code.UNAVAILABLE


class StateTooOldError(SealwrightError):
    """The replica has not read the store for longer than `max_staleness`, or its clock is off: it does not sign."""

    reason = "STATE_TOO_OLD"
    code = Code.UNAVAILABLE


class ProviderError(SealwrightError):
    """Base of what a provider may raise; never raised itself.

    `provider` is the configured name, set by the guard around the provider.
    """


class ProviderThrottledError(ProviderError):
    """The KMS asks for fewer requests."""

    reason = "PROVIDER_THROTTLED"
    code = Code.RESOURCE_EXHAUSTED


class ProviderUnavailableError(ProviderError):
    """The KMS cannot be reached or fails on its side."""

    reason = "PROVIDER_UNAVAILABLE"
    code = Code.UNAVAILABLE


class ProviderTimeoutError(ProviderError):
    """The KMS did not answer within the deadline."""

    reason = "PROVIDER_TIMEOUT"
    code = Code.DEADLINE_EXCEEDED


class ProviderAccessDeniedError(ProviderError):
    """The KMS refuses the service's own identity; not a matter of the caller's grants."""

    reason = "PROVIDER_ACCESS_DENIED"
    code = Code.FAILED_PRECONDITION


class ProviderKeyMissingError(ProviderError):
    """The KMS knows no such key."""

    reason = "PROVIDER_KEY_MISSING"
    code = Code.FAILED_PRECONDITION


class ProviderKeyDisabledError(ProviderError):
    """The KMS key is disabled, pending deletion or otherwise not usable."""

    reason = "PROVIDER_KEY_DISABLED"
    code = Code.FAILED_PRECONDITION


class ProviderUnsupportedError(ProviderError):
    """The provider cannot do that with this key: wrong algorithm, usage or key URI."""

    reason = "ALGORITHM_NOT_SUPPORTED"
    code = Code.INVALID_ARGUMENT


class MessageTooLargeError(ProviderError):
    """The KMS takes no message of that size (AWS KMS: 4096 bytes unless a digest is sent)."""

    reason = "TOKEN_TOO_LARGE"
    code = Code.INVALID_ARGUMENT


class SignatureRejectedError(ProviderError):
    """What the KMS answered is no signature by the published key: an alarm, never a token."""

    reason = "SIGNATURE_REJECTED"
    code = Code.INTERNAL


class ConfigurationError(Exception):
    """The configuration cannot be used.

    Attributes:
        problems: Every problem, each with its path (`issuers[0].url: …`).
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class ProviderNotInstalledError(ConfigurationError):
    """A configured provider's SDK is not installed; the message names the extra."""
