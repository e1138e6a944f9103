"""Every error that a caller can receive: one tree, and each class has a stable reason.

The boundary of gRPC turns these errors into `google.rpc.Status` (AIP-193). Messages are for people. They contain no key URI,
account, SDK text, token or claim value. Programs read `reason` and `metadata`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Final

DOMAIN = "sealwright.dev"
"""The `domain` of every ErrorInfo."""


class Code(StrEnum):
    """The canonical gRPC status codes that Sealwright returns, by name."""

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
        field: Path of the field (`claims_json.role`, `audience[0]`); empty: the request as a whole.
        description: What is wrong with it, without its value.
    """

    field: str
    description: str


MAX_RETRY_SECONDS: Final = 3600.0
"""A KMS that asks for more is asked again after an hour."""


class SealwrightError(Exception):
    """Base of all errors with a reason.

    Attributes:
        reason: Stable name for programs, `[A-Z][A-Z0-9_]+[A-Z0-9]`.
        code: Canonical gRPC status code.
        message: Text for people. It is safe to show to any caller.
        metadata: Details for programs. Keys are in lowerCamelCase; values are safe to show to any caller.
        violations: For INVALID_ARGUMENT: everything that is wrong with the request, at once.
        retry_after: Seconds after which a retry can help, at most `MAX_RETRY_SECONDS`; None: a retry cannot help.
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
        self.retry_after = retry_after if retry_after is None or retry_after <= MAX_RETRY_SECONDS else MAX_RETRY_SECONDS


class InternalError(SealwrightError):
    """Something failed that the caller cannot correct. The service's log has the cause under the request id."""


class InvalidRequestError(SealwrightError):
    """Base of the errors about a request; never raised itself."""

    code = Code.INVALID_ARGUMENT


class ViolationsError(InvalidRequestError):
    """Base of the errors that list violations, field by field. The message is made from one of them; never raised itself."""

    def __init__(self, violations: Sequence[Violation], *, first: Violation | None = None) -> None:
        """Make the message from a violation.

        Args:
            violations: Everything that is wrong with the request; at least one.
            first: The violation that the message names; None: the first one.
        """
        named = first or violations[0]
        text = f"{named.field}: {named.description}" if named.field else named.description
        super().__init__(text, violations=violations)


class RequestInvalidError(ViolationsError):
    """A field is missing, malformed or contradicts another field."""

    reason = "REQUEST_INVALID"


class ClaimNotAllowedError(ViolationsError):
    """The request sets a claim that only the service may set.

    These are `iss`, `iat`, and `jti` unless the issuer lets callers choose it. A registered claim in another letter case is
    refused too, because some verifiers read it as the registered claim.
    """

    reason = "CLAIM_NOT_ALLOWED"


class LifetimeTooLongError(ViolationsError):
    """The token would live longer than the issuer's `max_lifetime`."""

    reason = "LIFETIME_TOO_LONG"


class TokenTooLargeError(InvalidRequestError):
    """The token, or the message to sign, would exceed a size limit. Metadata has `size` and `limit`, in bytes."""

    reason = "TOKEN_TOO_LARGE"


class AlgorithmNotSupportedError(InvalidRequestError):
    """No series of the issuer signs with that algorithm."""

    reason = "ALGORITHM_NOT_SUPPORTED"


class TokenInvalidError(InvalidRequestError):
    """The token is not valid. Metadata `check` names the first check that failed."""

    reason = "TOKEN_INVALID"


class IssuerNotFoundError(SealwrightError):
    """The issuer does not exist."""

    reason = "ISSUER_NOT_FOUND"
    code = Code.NOT_FOUND


class KeyNotFoundError(SealwrightError):
    """The issuer does not have this key."""

    reason = "KEY_NOT_FOUND"
    code = Code.NOT_FOUND


class CallerUnauthenticatedError(SealwrightError):
    """The connection does not identify exactly one caller."""

    reason = "CALLER_UNAUTHENTICATED"
    code = Code.UNAUTHENTICATED


class CallerNotPermittedError(SealwrightError):
    """No single grant allows the whole request."""

    reason = "CALLER_NOT_PERMITTED"
    code = Code.PERMISSION_DENIED


class RotationTooEarlyError(SealwrightError):
    """The standby may not sign yet. Metadata `earliestTime` (RFC 3339) says when it may, if that is known."""

    reason = "ROTATION_TOO_EARLY"
    code = Code.FAILED_PRECONDITION


class RequestTooLargeError(SealwrightError):
    """The message of the request is longer than any request may be. It was not read."""

    reason = "REQUEST_TOO_LARGE"
    code = Code.RESOURCE_EXHAUSTED


class OverloadedError(SealwrightError):
    """The service has reached a limit on concurrent work. It did not start the request."""

    reason = "OVERLOADED"
    code = Code.RESOURCE_EXHAUSTED


class NoActiveKeyError(SealwrightError):
    """No key of the issuer may sign now."""

    reason = "NO_ACTIVE_KEY"
    code = Code.UNAVAILABLE


class ShuttingDownError(SealwrightError):
    """This replica is shutting down. It did not start the request; another replica can serve it."""

    reason = "SHUTTING_DOWN"
    code = Code.UNAVAILABLE


class StateTooOldError(SealwrightError):
    """The replica does not sign.

    Its last read of the store is older than `max_staleness`, its clock is wrong, or the store is refused.
    """

    reason = "STATE_TOO_OLD"
    code = Code.UNAVAILABLE


class ProviderError(SealwrightError):
    """Base of the errors that a provider may raise; never raised itself.

    The guard around the provider adds the provider's configured name to the metadata, as `provider`.

    Attributes:
        detail: For the log alone: the error's code at the KMS and the id of the request, never a text of the KMS.
    """

    detail = ""


class ProviderThrottledError(ProviderError):
    """The KMS limits the rate of requests."""

    reason = "PROVIDER_THROTTLED"
    code = Code.RESOURCE_EXHAUSTED


class ProviderUnavailableError(ProviderError):
    """The KMS cannot be reached, or it reports a failure on its own side."""

    reason = "PROVIDER_UNAVAILABLE"
    code = Code.UNAVAILABLE


class ProviderTimeoutError(ProviderError):
    """The KMS did not answer within the deadline."""

    reason = "PROVIDER_TIMEOUT"
    code = Code.DEADLINE_EXCEEDED


class ProviderAccessDeniedError(ProviderError):
    """The KMS denies access to the service's own identity. The caller's grants are not the cause."""

    reason = "PROVIDER_ACCESS_DENIED"
    code = Code.FAILED_PRECONDITION


class ProviderKeyMissingError(ProviderError):
    """The key does not exist in the KMS."""

    reason = "PROVIDER_KEY_MISSING"
    code = Code.FAILED_PRECONDITION


class ProviderKeyDisabledError(ProviderError):
    """The KMS key is disabled, pending deletion or otherwise unusable."""

    reason = "PROVIDER_KEY_DISABLED"
    code = Code.FAILED_PRECONDITION


class ProviderKeyLostError(ProviderKeyDisabledError):
    """The key will never sign: the KMS could not generate it, or has destroyed it."""


class ProviderKeyPendingError(ProviderKeyDisabledError):
    """The KMS reports that the state of the key does not permit to sign, as it also does for a moment after a key was created."""


class ProviderUnsupportedError(ProviderError):
    """The provider cannot do this with the key: its algorithm, usage or key URI does not fit."""

    reason = "ALGORITHM_NOT_SUPPORTED"
    code = Code.INVALID_ARGUMENT


class MessageTooLargeError(ProviderError):
    """The message is larger than the KMS accepts (AWS KMS: 4096 bytes unless a digest is sent)."""

    reason = "TOKEN_TOO_LARGE"
    code = Code.INVALID_ARGUMENT


class SignatureRejectedError(ProviderError):
    """The KMS returned something that is not a signature by the published key. This raises an alarm; no token is released."""

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
    """The SDK of a configured provider is not installed. The message names the extra to install."""
