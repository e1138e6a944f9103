"""Bounds on the fields of a request, checked before permission and before anything else looks at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from google.protobuf.message import Message

from sealwright.errors import RequestInvalidError, TokenTooLargeError, Violation
from sealwright.jose.claims import MAX_AUDIENCES

MAX_CLAIMS_BYTES: Final = 64 * 1024
"""The largest `max_token_bytes` that an issuer may have."""
MAX_CHARACTERS: Final[Mapping[str, int]] = {
    "issuer": 128,
    "name": 256,
    "parent": 128,
    "subject": 2048,
    "algorithm": 32,
    "token_type": 64,
    "token": 128 * 1024,
    "audience": 2048,
    "series": 63,
    "expected_kid": 64,
    "provider": 63,
    "reason": 1024,
    "page_token": 64,
}
"""The longest value of each text field, by name. It has the same bound in every request."""


def check(request: Message) -> None:
    """Check the size of every field of a request. The requests of a batch are checked one by one.

    Raises:
        RequestInvalidError: A field is too long.
        TokenTooLargeError: `claims_json` is too long for any issuer.
    """
    reader = _READERS.get(type(request))
    if reader is None:
        reader = _READERS[type(request)] = _reader(request)
    violations = list(reader(request))
    if violations:
        raise RequestInvalidError(violations)
    size = len(getattr(request, "claims_json", ""))
    if size > MAX_CLAIMS_BYTES:
        raise TokenTooLargeError(
            f"claims_json has {size} characters; at most {MAX_CLAIMS_BYTES} are allowed",
            metadata={"size": str(size), "limit": str(MAX_CLAIMS_BYTES)},
        )


Reader = Callable[[Any], Iterator[Violation]]

_READERS: Final[dict[type[Message], Reader]] = {}


def _reader(request: Message) -> Reader:
    """Return a function that yields the violations of a type of message."""
    names = [f.name for f in request.DESCRIPTOR.fields if f.name in MAX_CHARACTERS and f.name != "audience"]
    bounds = [(name, MAX_CHARACTERS[name]) for name in names]
    has_audience = "audience" in request.DESCRIPTOR.fields_by_name
    many = has_audience and request.DESCRIPTOR.fields_by_name["audience"].is_repeated
    if has_audience and not many:
        bounds.append(("audience", MAX_CHARACTERS["audience"]))

    def read(message: Any) -> Iterator[Violation]:
        for name, limit in bounds:
            if len(getattr(message, name)) > limit:
                yield Violation(name, f"must have at most {limit} characters")
        if many and message.audience:
            if len(message.audience) > MAX_AUDIENCES:
                yield Violation("audience", f"must have at most {MAX_AUDIENCES} entries")
                return
            for i, audience in enumerate(message.audience):
                if len(audience) > MAX_CHARACTERS["audience"]:
                    yield Violation(f"audience[{i}]", f"must have at most {MAX_CHARACTERS['audience']} characters")

    return read
