"""The schema of an audit record: every field and every event, with its meaning.

`docs/audit-record.md` shows these tables; a test compares them. A decision refuses to note a field that is not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Outcome(StrEnum):
    """How a decision ended."""

    ALLOWED = "allowed"
    DENIED = "denied"
    FAILED = "failed"
    CANCELLED = "cancelled"
    WITHHELD = "withheld"
    BEGUN = "begun"


OUTCOMES: Final = MappingProxyType(
    {
        Outcome.ALLOWED: "The call succeeded. The record was durable before the answer left. A caller who left while it was "
        "being written did not get the answer.",
        Outcome.DENIED: "The caller is unknown, or no grant allows the request. Nothing was done.",
        Outcome.FAILED: "The request is invalid, or something failed. `reason` says what.",
        Outcome.CANCELLED: "The caller left before the answer. No token was released.",
        Outcome.WITHHELD: "A token was signed, but it was not released: its key was revoked meanwhile, or the replica lost "
        "contact with the store. If this happens while an `allowed` record is being written, the decision has this second "
        "record, with the same `request_id`.",
        Outcome.BEGUN: "A change to keys is about to start. A second record with the same `request_id` has its outcome. If "
        "there is none, the service stopped in between.",
    },
)

EVENTS: Final = MappingProxyType(
    {
        "SignJwt": "sign",
        "BatchSignJwt": "batch_sign",
        "VerifyJwt": "verify",
        "ListIssuers": "list_issuers",
        "GetIssuer": "get_issuer",
        "ListKeys": "list_keys",
        "GetKey": "get_key",
        "RotateKeys": "rotate",
        "RevokeKeys": "revoke",
    },
)
"""The event of each RPC that is a decision. GetJwks is public and is not recorded. Each request of a batch has an event `sign` of
its own; `batch_sign` stands for a batch that was refused as a whole."""

KEY_PUBLISHED: Final = "key_published"
KEY_CHANGED: Final = "key_changed"
REFUSALS_OMITTED: Final = "refusals_omitted"
AUDIT_REOPENED: Final = "audit_reopened"
AUDIT_ROTATED: Final = "audit_rotated"
AUDIT_RESUMED: Final = "audit_resumed"

OTHER_EVENTS: Final = MappingProxyType(
    {
        KEY_PUBLISHED: "A key entered the JWK Set.",
        KEY_CHANGED: "One of a key's times was written.",
        REFUSALS_OMITTED: "A caller had more refused calls in a minute than are recorded one by one; `omitted` counts the rest.",
        AUDIT_REOPENED: "The file was renamed, deleted or replaced, or SIGHUP asked for it. The records continue in a new file.",
        AUDIT_ROTATED: "The file before this one was closed under a numbered name.",
        AUDIT_RESUMED: "Records can be written again after a failure.",
    },
)
"""Events without an outcome."""

URGENT: Final = frozenset({"rotate", "revoke", KEY_PUBLISHED, KEY_CHANGED})
"""Events that may use the room that is kept back on the disk, because they must be possible when it is full."""

_EVERY: Final = "every record"
_CALLS: Final = "calls"
_KEYS: Final = "key_published, key_changed"


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the audit record.

    Attributes:
        name: Its name in the JSON object.
        type: JSON type, and the format where there is one.
        where: The records that have it.
        meaning: What it says.
    """

    name: str
    type: str
    where: str
    meaning: str


FIELDS: Final = (
    Field(
        "sequence", "integer", _EVERY, "Number of the record in its file, from 1. A gap means that a record is missing."
    ),
    Field("time", "string, RFC 3339", _EVERY, "When the record was made, by the clock of the machine."),
    Field(
        "replica",
        "string, UUID",
        _EVERY,
        "The start of a worker that wrote the record. It is also the name of the file.",
    ),
    Field("event", "string", _EVERY, "What was decided or done."),
    Field("method", "string", _CALLS, "Name of the RPC."),
    Field("request_id", "string, UUID", _CALLS, "Names the call in the answer, in the log and here."),
    Field("batch_request_id", "string, UUID", "sign, in a batch", "The `request_id` of the BatchSignJwt call."),
    Field("caller", "string", _CALLS, "Who made the call. Absent if the caller could not be identified."),
    Field("peer", "string", _CALLS, "Network address of the caller."),
    Field("outcome", "string", _CALLS, "How the decision ended."),
    Field("reason", "string", _CALLS, "The reason of the error; empty if there is none."),
    Field("issuer", "string", "calls and keys", "Name of the issuer."),
    Field("token_type", "string", "sign", "`typ` of the token."),
    Field("sub", "string or null", "sign", "`sub` of the token."),
    Field("aud", "array of strings", "sign", "`aud` of the token, always as a list. Cut if it is long."),
    Field("jti", "string", "sign", "`jti` of the token."),
    Field("iat", "integer", "sign", "`iat` of the token, in seconds since the epoch."),
    Field("exp", "integer", "sign", "`exp` of the token, in seconds since the epoch."),
    Field("kid", "string", "sign, verify, get_key, revoke, keys", "The key."),
    Field("algorithm", "string", "sign, keys", "JWS algorithm of the key."),
    Field("provider", "string", "sign, revoke, keys", "Name of the provider that holds the key."),
    Field(
        "signing_input_sha256",
        "string, hex",
        "sign",
        "SHA-256 of what was signed. It identifies the token without containing it.",
    ),
    Field(
        "kms_request_id",
        "string or null",
        "sign",
        "The KMS's name for the call, to find it in the KMS's own log. Null where the KMS has none: Google Cloud KMS and HSMs.",
    ),
    Field(
        "passed_over",
        "array of strings",
        "sign",
        "Series that come before the one that signed and did not sign, each with the reason: `series: REASON`. The first one "
        "signs normally. Absent if it did.",
    ),
    Field("requests", "integer", "batch_sign", "How many requests the refused batch had."),
    Field(
        "omitted", "integer", "refusals_omitted", "How many refused calls of the caller have no record of their own."
    ),
    Field("check", "string", "verify", "The first check that the token did not pass."),
    Field("series", "string or null", "rotate, keys", "Name of the series; null: all series of the issuer."),
    Field("expected_kid", "string or null", "rotate", "The key that the caller expected to be active."),
    Field("validate_only", "boolean", "rotate, revoke", "Whether the caller asked for the plan only."),
    Field("why", "string", "revoke", "The reason that the caller gave, at most 1024 characters."),
    Field(
        "publish_time",
        "string, RFC 3339",
        _KEYS,
        "The key's `publish_time`, if the event set it. The other times likewise.",
    ),
    Field("ready_time", "string, RFC 3339", _KEYS, "From when the key may sign."),
    Field("retire_time", "string, RFC 3339", _KEYS, "When the key stopped signing."),
    Field("withdraw_time", "string, RFC 3339", _KEYS, "When the key leaves the JWK Set."),
    Field("revoke_time", "string, RFC 3339", _KEYS, "When the key was revoked."),
    Field("disable_time", "string, RFC 3339", _KEYS, "When it was disabled in the KMS, after its withdrawal."),
    Field("destroy_due_time", "string, RFC 3339", _KEYS, "From when its deletion may be scheduled."),
    Field("destroy_time", "string, RFC 3339", _KEYS, "When its deletion was scheduled in the KMS."),
)
"""Every field, in the order of the page."""

NAMES: Final = frozenset(field.name for field in FIELDS)
