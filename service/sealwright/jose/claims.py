"""Builds the claims of a token: reads the caller's JSON, adds the registered claims (RFC 7519 §4.1), and writes the payload."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from json.encoder import encode_basestring as _json_string
from typing import Any, Final, NamedTuple, NoReturn

from sealwright.errors import (
    ClaimNotAllowedError,
    LifetimeTooLongError,
    RequestInvalidError,
    Violation,
    ViolationsError,
)
from sealwright.jose.strict_json import LargeInteger, Member, StrictJsonError, parse_object, plain_names

FIELD: Final = "claims_json"
MAX_AUDIENCES: Final = 100
"""Most entries of `aud`."""
_SERVICE_OWNED: Final = ("iss", "iat")
_REGISTERED: Final = frozenset({"iss", "sub", "aud", "exp", "nbf", "iat", "jti"})
_BIDIRECTIONAL: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of text (UAX #9 §2)."""
_MILLISECOND_DIGITS: Final = 13
_FAR: Final = 10**20
"""Replaces every time that has too many digits. It is beyond every limit, on either side."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_json_text = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class ClaimsRequest(NamedTuple):
    """What a caller asks for. `sub`, `aud`, `exp` and `nbf` may be in the JSON or in their field. If in both, they must be equal.

    Attributes:
        claims_json: A JSON object as text.
        subject: `sub`; None: not given.
        audience: `aud`; empty: not given. One becomes a string, several a list (RFC 7519 §4.1.3).
        lifetime: Time from `iat` to `exp`; None: the issuer's default.
        not_before: `nbf`; None: not given.
    """

    claims_json: str
    subject: str | None = None
    audience: Sequence[str] = ()
    lifetime: timedelta | None = None
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimsPolicy:
    """The rules of an issuer.

    Attributes:
        issuer: `iss`, byte for byte.
        default_lifetime: Time from `iat` to `exp` if the caller gives none.
        max_lifetime: Longest time from `iat` to `exp`.
        caller_chooses_jti: Whether the caller's JSON may contain `jti`.
    """

    issuer: str
    default_lifetime: timedelta
    max_lifetime: timedelta
    caller_chooses_jti: bool = False


class Claims(NamedTuple):
    """The claims of one token.

    Attributes:
        payload: The JWS payload, UTF-8.
        subject: `sub`, or None.
        audience: `aud` as a list, also where it is one string; empty: none.
        issue_time: `iat`, in seconds since the epoch.
        expire_time: `exp`, in seconds since the epoch.
        not_before: `nbf`, in seconds since the epoch, or None.
        jwt_id: `jti`.
    """

    payload: bytes
    subject: str | None
    audience: tuple[str, ...]
    issue_time: int
    expire_time: int
    not_before: int | None
    jwt_id: str


class _Problems:
    """All violations, and the first one of each kind of error."""

    __slots__ = ("first", "violations")

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.first: dict[type[ViolationsError], Violation] = {}

    def add(self, path: str, description: str, kind: type[ViolationsError] = RequestInvalidError) -> None:
        violation = Violation(path, description)
        self.violations.append(violation)
        self.first.setdefault(kind, violation)

    def raise_first(self) -> NoReturn:
        """Raise all of them, as an error of the kind that counts most."""
        kind = next(k for k in (RequestInvalidError, ClaimNotAllowedError, LifetimeTooLongError) if k in self.first)
        raise kind(self.violations, first=self.first[kind])


def build_claims(request: ClaimsRequest, policy: ClaimsPolicy, *, now: datetime, jwt_id: str) -> Claims:
    """Build the claims of a token.

    Args:
        request: What the caller asks for.
        policy: The rules of the issuer.
        now: The time of issue. `iat` is its floor, so that no verifier receives a token from the future.
        jwt_id: `jti`, unless the caller is allowed to choose it and does.

    Raises:
        RequestInvalidError: The JSON is not strict, or a claim has a wrong type or value, or two values differ.
        ClaimNotAllowedError: The JSON contains a claim that only the service sets, or a registered claim in another letter case.
        LifetimeTooLongError: `exp` is more than `max_lifetime` after `iat`.
    """
    problems = _Problems()
    given, others = _read(request.claims_json, problems)
    issue_time = _seconds(now)
    subject = _subject(given, request, problems)
    audience, audience_text = _audience(given, request, problems)
    expire_time = _expire_time(given, request, policy, issue_time, problems)
    not_before = _not_before(given, request, expire_time, problems)
    jwt_id = _jwt_id(given, policy, jwt_id, problems)
    if problems.violations:
        problems.raise_first()

    own = [f'"iss":{_json_string(policy.issuer)}']
    if subject is not None:
        own.append(f'"sub":{_json_string(subject)}')
    if audience_text is not None:
        own.append(f'"aud":{audience_text}')
    own.append(f'"iat":{issue_time}')
    if not_before is not None:
        own.append(f'"nbf":{not_before}')
    own.append(f'"exp":{expire_time},"jti":{_json_string(jwt_id)}')
    if others:
        own.append(others)
    return Claims(
        payload=f"{{{','.join(own)}}}".encode(),
        subject=subject,
        audience=audience,
        issue_time=issue_time,
        expire_time=expire_time,
        not_before=not_before,
        jwt_id=jwt_id,
    )


def _read(text: str, problems: _Problems) -> tuple[Mapping[str, Member], str]:
    """Return the members of the caller's JSON by name, and the text of those that are not registered claims.

    If none of them is registered or looks like it, that is the text itself, and nobody asks for the members.
    """
    names = plain_names(text)
    if names is not None and _REGISTERED.isdisjoint(map(str.casefold, names)):
        return {}, text[1:-1]
    members: Sequence[Member]
    try:
        members = parse_object(text, FIELD)
    except StrictJsonError as e:
        members = e.members
        for violation in e.violations:
            problems.add(violation.field, violation.description)
    given = {m.name: m for m in members}
    _names(given, problems)
    return given, ",".join([m.text for m in members if m.name not in _REGISTERED])


def _seconds(moment: datetime) -> int:
    """Return the floor in whole seconds since the epoch. A float of seconds would round up for distant times."""
    return (moment - _EPOCH) // _SECOND


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != "" and _is_plain(value)


def _is_plain(text: str) -> bool:
    """Return whether a text has no control character, and none that changes the direction in which people read it (UAX #9)."""
    return text.isprintable() or not any(unicodedata.category(c) == "Cc" or c in _BIDIRECTIONAL for c in text)


def _is_unicode(text: str) -> bool:
    """Tell whether UTF-8 can encode the text: it has no lone surrogates."""
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)


def _names(given: Mapping[str, Member], problems: _Problems) -> None:
    """Refuse what the service sets, and look-alikes: Go's encoding/json reads `ISS`, or `sub` with a long s, as `iss` or `sub`."""
    for name in _SERVICE_OWNED:
        if name in given:
            problems.add(f"{FIELD}.{name}", "only the service sets this claim", ClaimNotAllowedError)
    for name in given:
        if name not in _REGISTERED and _as_careless_readers_see(name) in _REGISTERED:
            path = f"{FIELD}.{json.dumps(name)[1:-1]}"
            problems.add(path, "looks like a registered claim", ClaimNotAllowedError)


def _as_careless_readers_see(name: str) -> str:
    """Return a name without letter case, and without compatibility forms (UAX #15)."""
    return name.casefold() if name.isascii() else unicodedata.normalize("NFKC", name).casefold()


def _subject(given: Mapping[str, Member], request: ClaimsRequest, problems: _Problems) -> str | None:
    asked = request.subject
    if asked is not None and not (asked and _is_unicode(asked) and _is_plain(asked)):
        problems.add("subject", "must be Unicode text, not empty, without control and bidirectional characters")
    member = given.get("sub")
    if member is None:
        return asked
    if not _is_text(member.value):
        problems.add(f"{FIELD}.sub", "must be a string, not empty, without control and bidirectional characters")
        return None
    if asked is not None and asked != member.value:
        problems.add("subject", f"differs from {FIELD}.sub")
    return str(member.value)


def _audience(
    given: Mapping[str, Member],
    request: ClaimsRequest,
    problems: _Problems,
) -> tuple[tuple[str, ...], str | None]:
    """Return the audiences, and the JSON text of `aud` as the caller shaped it: a string or a list."""
    asked = tuple(request.audience)
    for i, name in enumerate(asked):
        if not (name and _is_unicode(name) and _is_plain(name)):
            problems.add(
                f"audience[{i}]", "must be Unicode text, not empty, without control and bidirectional characters"
            )
    member = given.get("aud")
    if member is None:
        if not asked:
            return (), None
        return asked, _json_text(asked[0] if len(asked) == 1 else asked)
    values = member.value if isinstance(member.value, list) else [member.value]
    if not values or not all(_is_text(v) for v in values):
        problems.add(
            f"{FIELD}.aud", "must be a string or strings, none empty, without control and bidirectional characters"
        )
        return (), None
    if len(values) > MAX_AUDIENCES:
        problems.add(f"{FIELD}.aud", f"must have at most {MAX_AUDIENCES} entries")
        return (), None
    if asked and asked != tuple(values):
        problems.add("audience", f"differs from {FIELD}.aud")
    return tuple(values), member.raw


def _number(given: Mapping[str, Member], name: str, problems: _Problems) -> int | None:
    """Return a NumericDate claim. RFC 7519 §2 allows fractions, but some verifiers read only whole seconds."""
    member = given.get(name)
    if member is None:
        return None
    if isinstance(member.value, LargeInteger):
        return -_FAR if member.raw.startswith("-") else _FAR
    if type(member.value) is not int:
        problems.add(f"{FIELD}.{name}", "must be a whole number of seconds since the epoch")
        return None
    return member.value


def _expire_time(
    given: Mapping[str, Member],
    request: ClaimsRequest,
    policy: ClaimsPolicy,
    issue_time: int,
    problems: _Problems,
) -> int:
    lifetime = policy.default_lifetime if request.lifetime is None else request.lifetime
    path = "lifetime"
    if lifetime.microseconds:
        problems.add(path, "must be whole seconds")
    expire_time = issue_time + lifetime // _SECOND
    claimed = _number(given, "exp", problems)
    if claimed is not None:
        path = f"{FIELD}.exp"
        if request.lifetime is not None and claimed != expire_time:
            problems.add("lifetime", f"differs from {FIELD}.exp")
        expire_time = claimed
    if expire_time <= issue_time:
        problems.add(path, "the token would already be expired when it is issued")
    elif expire_time > issue_time + policy.max_lifetime // _SECOND:
        limit = f"the token would live longer than {policy.max_lifetime // _SECOND} s"
        milliseconds = claimed is not None and len(str(claimed)) == _MILLISECOND_DIGITS
        problems.add(
            path,
            limit + ("; it must be in seconds, and looks like milliseconds" if milliseconds else ""),
            LifetimeTooLongError,
        )
    return expire_time


def _not_before(
    given: Mapping[str, Member], request: ClaimsRequest, expire_time: int, problems: _Problems
) -> int | None:
    asked = None if request.not_before is None else _seconds(request.not_before)
    claimed = _number(given, "nbf", problems)
    if claimed is not None and asked is not None and claimed != asked:
        problems.add("not_before", f"differs from {FIELD}.nbf")
    not_before = asked if claimed is None else claimed
    path = "not_before" if claimed is None else f"{FIELD}.nbf"
    if not_before is not None and not_before < 0:
        problems.add(path, "must not be before the epoch")
    if not_before is not None and not_before >= expire_time:
        problems.add(path, "the token would expire before it becomes valid")
    return not_before


def _jwt_id(given: Mapping[str, Member], policy: ClaimsPolicy, fresh: str, problems: _Problems) -> str:
    member = given.get("jti")
    if member is None:
        return fresh
    if not policy.caller_chooses_jti:
        problems.add(f"{FIELD}.jti", "only the service sets this claim", ClaimNotAllowedError)
        return fresh
    if not _is_text(member.value):
        problems.add(f"{FIELD}.jti", "must be a string, not empty, without control and bidirectional characters")
        return fresh
    return str(member.value)
