"""The errors of AWS KMS, in the form of its JSON 1.1 protocol."""

from __future__ import annotations

from http import HTTPStatus


class AwsError(Exception):
    """An error, as a client of AWS KMS sees it.

    Attributes:
        type: the `__type` of the answer, such as `NotFoundException`: which boto3 returns as `Error.Code`.
        message: the text for people.
        status: the HTTP status. AWS KMS uses 400 for nearly everything, including throttling and authentication,
            and 500 for its own failures.
        retry_after: seconds for a `Retry-After` header, which AWS KMS itself does not send.
    """

    def __init__(
        self, kind: str, message: str = "", status: int = HTTPStatus.BAD_REQUEST, retry_after: float | None = None
    ) -> None:
        super().__init__(f"{kind}: {message}")
        self.type = kind
        self.message = message
        self.status = int(status)
        self.retry_after = retry_after


def invalid(message: str) -> AwsError:
    """Return the error for parameters that break a rule."""
    return AwsError("ValidationException", message)


def unsatisfied(value: object, member: str, constraint: str) -> AwsError:
    """Return the error for one parameter, with the text that AWS uses for violations of its service model.

    Args:
        value: the value that was refused; `None` reads as `null`. Bytes are not repeated.
        member: the name of the parameter in the service model, such as `KeyId`.
        constraint: the rule, such as `Member must not be null`.
    """
    shown = "Value" if isinstance(value, bytes) else f"Value {'null' if value is None else repr(str(value))}"
    name = member[:1].lower() + member[1:]
    return invalid(f"1 validation error detected: {shown} at '{name}' failed to satisfy constraint: {constraint}")


def unreadable(message: str) -> AwsError:
    """Return the error for a body that is not a JSON object, or has a value of the wrong JSON type."""
    return AwsError("SerializationException", message)


def not_found(message: str) -> AwsError:
    """Return the error for a key, alias or ARN that does not exist here."""
    return AwsError("NotFoundException", message)


def invalid_state(arn: str, state: str) -> AwsError:
    """Return the error for an operation that the key's state does not allow, such as `is pending deletion`."""
    return AwsError("KMSInvalidStateException", f"{arn} {state}.")


def invalid_usage(message: str) -> AwsError:
    """Return the error for an operation or algorithm that does not fit the key's usage."""
    return AwsError("InvalidKeyUsageException", message)
