"""The record of a request."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sealwright_testing.emulators.calls import PENDING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(slots=True, kw_only=True)
class CallRecord:
    """One request that named an operation, successful or not.

    Attributes:
        time: arrival time, in seconds since the epoch by the wall clock.
        operation: its name, such as `Sign`.
        reference: its KeyId (or TargetKeyId) as received: an ID, an ARN or an alias.
        key_id: the ID of the key that it names, if the key exists.
        message_type: the MessageType of Sign and Verify; RAW if the request has none.
        algorithm: its SigningAlgorithm or MacAlgorithm.
        message_length: bytes in its Message. The message itself is not kept.
        outcome: `ok`, the `__type` of the error, the fault that prevented an answer, `pending`, or `gone` if the
            client disconnected before the answer.
    """

    time: float
    operation: str
    reference: str | None = None
    key_id: str | None = None
    message_type: str | None = None
    algorithm: str | None = None
    message_length: int | None = None
    outcome: str = PENDING

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object with the names of the attributes."""
        return asdict(self)


def describe(operation: str, body: bytes, time: float) -> CallRecord:
    """Return the record of a request. Its body may be malformed."""
    record = CallRecord(time=time, operation=operation)
    try:
        values = json.loads(body or b"{}")
    except ValueError:
        return record
    if not isinstance(values, dict):
        return record
    record.reference = _text(values, "KeyId") or _text(values, "TargetKeyId")
    record.algorithm = _text(values, "SigningAlgorithm") or _text(values, "MacAlgorithm")
    message = _text(values, "Message")
    if message is not None:
        record.message_length = _decoded_length(message)
        record.message_type = _text(values, "MessageType")
        if record.message_type is None and operation in {"Sign", "Verify"}:
            record.message_type = "RAW"
    return record


def _text(values: Mapping[str, Any], name: str) -> str | None:
    value = values.get(name)
    return value if isinstance(value, str) else None


def _decoded_length(text: str) -> int | None:
    try:
        return len(base64.b64decode(text, validate=True))
    except binascii.Error:
        return None
