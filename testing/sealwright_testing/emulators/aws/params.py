"""Reads the parameters of a request, with the checks of the AWS service model."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .errors import unreadable, unsatisfied

if TYPE_CHECKING:
    from collections.abc import Mapping
    from enum import StrEnum

E = TypeVar("E", bound="StrEnum")
T = TypeVar("T")

MAX_KEY_ID: Final = 2048
"""The most characters in a KeyId."""
MAX_MESSAGE: Final = 4096
"""The most bytes in the Message of Sign, Verify, GenerateMac and VerifyMac."""
MAX_SIGNATURE: Final = 6144
"""The most bytes in a Signature or Mac."""
_MAX_MARKER: Final = 1024


class Params:
    """The parameters of one request.

    Every reader returns the value, or `None` if it is absent and not required. It raises AwsError (ValidationException or
    SerializationException) if the value does not fit the service model.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    @classmethod
    def parse(cls, body: bytes) -> Params:
        """Read a request's body, which must be a JSON object. An empty body counts as an empty object."""
        try:
            values = json.loads(body or b"{}")
        except ValueError:
            raise unreadable("The request body is not valid JSON.") from None
        if not isinstance(values, dict):
            raise unreadable("The request body is not a JSON object.")
        return cls(values)

    def raw(self, name: str) -> Any:
        """Return a value as received, unchecked."""
        return self._values.get(name)

    def text(self, name: str, *, least: int = 1, most: int = MAX_KEY_ID, pattern: str | None = None) -> str | None:
        """Return a string of `least` to `most` characters that matches `pattern` as a whole."""
        value: str | None = self._typed(name, str)
        if value is None:
            return None
        _check_length(value, name, least, most)
        if pattern is not None and not re.fullmatch(pattern, value):
            raise unsatisfied(value, name, f"Member must satisfy regular expression pattern: {pattern}")
        return value

    def required_text(self, name: str, **limits: Any) -> str:
        """Return a required string. `limits` are those of `text`."""
        return _present(self.text(name, **limits), name)

    def blob(self, name: str, *, most: int = MAX_MESSAGE) -> bytes:
        """Return 1 to `most` required bytes, which are in base64.

        The service refuses an empty Message although the prose of its reference says 0-4096.
        """
        text: str = _present(self._typed(name, str), name)
        try:
            value = base64.b64decode(text, validate=True)
        except binascii.Error:
            raise unreadable(f"{name} is not valid base64.") from None
        _check_length(value, name, 1, most)
        return value

    def integer(self, name: str, *, least: int, most: int) -> int | None:
        """Return an integer from `least` to `most`."""
        value: int | None = self._typed(name, int)
        if value is None:
            return None
        if value < least:
            raise unsatisfied(value, name, f"Member must have value greater than or equal to {least}")
        if value > most:
            raise unsatisfied(value, name, f"Member must have value less than or equal to {most}")
        return value

    def flag(self, name: str) -> bool:
        """Return a boolean; false if absent."""
        return bool(self._typed(name, bool))

    def choice(self, name: str, kind: type[E]) -> E | None:
        """Return a member of an enumeration."""
        value = self._typed(name, str)
        if value is None:
            return None
        try:
            return kind(value)
        except ValueError:
            members = ", ".join(kind)
            raise unsatisfied(value, name, f"Member must satisfy enum value set: [{members}]") from None

    def required_choice(self, name: str, kind: type[E]) -> E:
        """Return a required member of an enumeration."""
        return _present(self.choice(name, kind), name)

    def items(self, name: str) -> list[Any] | None:
        """Return a list, its items unchecked."""
        value: list[Any] | None = self._typed(name, list)
        return value

    def marker(self) -> str | None:
        """Return the Marker of a list operation."""
        return self.text("Marker", most=_MAX_MARKER)

    def _typed(self, name: str, kind: type[Any]) -> Any:
        value = self._values.get(name)
        # In Python a bool is an int, but in JSON `true` is not a number.
        if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise unreadable(f"{name} has the wrong JSON type.")
        return value


def _present(value: T | None, name: str) -> T:
    if value is None:
        raise unsatisfied(None, name, "Member must not be null")
    return value


def _check_length(value: str | bytes, name: str, least: int, most: int) -> None:
    if len(value) < least:
        raise unsatisfied(value, name, f"Member must have length greater than or equal to {least}")
    if len(value) > most:
        raise unsatisfied(value, name, f"Member must have length less than or equal to {most}")
