"""The claims of a token: the caller's JSON in, the registered claims (RFC 7519 §4.1) added, the payload's text out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sealwright.errors import (
    ClaimNotAllowedError,
    InvalidRequestError,
    LifetimeTooLongError,
    RequestInvalidError,
    Violation,
)
from sealwright.jose.strict_json import Member, StrictJsonError, parse_object

FIELD: Final = "claims_json"
_SERVICE_OWNED: Final = ("iss", "iat")
_MILLISECOND_DIGITS: Final = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimsRequest:
    """What a caller asks for. `sub`, `aud`, `exp` and `nbf` may stand in the JSON or in their field; in both they must agree.

    Attributes:
        claims_json: A JSON object as text.
        subject: `sub`; None: not given.
        audience: `aud`; empty: not given. One is written as a string, several as a list (RFC 7519 §4.1.3).
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
    """What an issuer fixes.

    Attributes:
        issuer: `iss`, to the byte.
        default_lifetime: Where the caller names none.
        max_lifetime: `exp` is at most `iat` + this.
        caller_chooses_jti: Whether `jti` may stand in the caller's JSON.
    """

    issuer: str
    default_lifetime: timedelta
    max_lifetime: timedelta
    caller_chooses_jti: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """The claims of one token.

    Attributes:
        payload: The JWS payload, UTF-8.
        subject: `sub`, or None.
        audience: `aud`, as a list whatever its shape; empty: none.
        issue_time: `iat`, in seconds since the epoch.
        expire_time: `exp`, likewise.
        not_before: `nbf`, likewise, or None.
        jwt_id: `jti`.
    """

    payload: bytes
    subject: str | None
    audience: tuple[str, ...]
    issue_time: int
    expire_time: int
    not_before: int | None
    jwt_id: str


@dataclass(slots=True)
class _Problems:
    """Everything that is wrong, and the reason that names the worst of it."""

    violations: list[Violation] = field(default_factory=list)
    kinds: set[type[InvalidRequestError]] = field(default_factory=set)

    def add(self, path: str, description: str, kind: type[InvalidRequestError] = RequestInvalidError) -> None:
        self.violations.append(Violation(path, description))
        self.kinds.add(kind)

    def raise_any(self) -> None:
        for kind in (RequestInvalidError, ClaimNotAllowedError, LifetimeTooLongError):
            if kind in self.kinds:
                first = self.violations[0]
                raise kind(f"{first.field}: {first.description}", violations=self.violations)


def build_claims(request: ClaimsRequest, policy: ClaimsPolicy, *, now: datetime, jwt_id: str) -> Claims:
    """Make the claims of a token.

    Args:
        request: What the caller asks for.
        policy: What the issuer fixes.
        now: The time of issue; `iat` is its floor, so that no verifier sees a token from the future.
        jwt_id: `jti`, unless the caller may and does choose it.

    Raises:
        RequestInvalidError: The JSON is not strict, or a claim has a wrong type or value, or two values differ.
        ClaimNotAllowedError: The JSON holds a claim that the service owns.
        LifetimeTooLongError: `exp` lies more than `max_lifetime` after `iat`.
    """
    problems = _Problems()
    members: Sequence[Member]
    try:
        members = parse_object(request.claims_json, FIELD)
    except StrictJsonError as e:
        members = e.members
        for violation in e.violations:
            problems.add(violation.field, violation.description)
    given = {m.name: m for m in members}
    for name in _SERVICE_OWNED:
        if name in given:
            problems.add(f"{FIELD}.{name}", "set by the service", ClaimNotAllowedError)
    issue_time = int(now.timestamp())
    subject = _subject(given, request, problems)
    audience, audience_text = _audience(given, request, problems)
    expire_time = _expire_time(given, request, policy, issue_time, problems)
    not_before = _not_before(given, request, expire_time, problems)
    jwt_id = _jwt_id(given, policy, jwt_id, problems)
    problems.raise_any()

    own: list[tuple[str, Any]] = [("iss", json.dumps(policy.issuer, ensure_ascii=False))]
    if subject is not None:
        own.append(("sub", json.dumps(subject, ensure_ascii=False)))
    if audience_text is not None:
        own.append(("aud", audience_text))
    own.append(("iat", issue_time))
    if not_before is not None:
        own.append(("nbf", not_before))
    own += [("exp", expire_time), ("jti", json.dumps(jwt_id, ensure_ascii=False))]
    registered = {name for name, _ in own}
    texts = [f'"{name}":{value}' for name, value in own] + [m.text for m in members if m.name not in registered]
    return Claims(
        payload=("{" + ",".join(texts) + "}").encode(),
        subject=subject,
        audience=audience,
        issue_time=issue_time,
        expire_time=expire_time,
        not_before=not_before,
        jwt_id=jwt_id,
    )


def _subject(given: dict[str, Member], request: ClaimsRequest, problems: _Problems) -> str | None:
    member = given.get("sub")
    if member is None:
        return request.subject
    if not isinstance(member.value, str) or not member.value:
        problems.add(f"{FIELD}.sub", "must be a string that is not empty")
    elif request.subject is not None and request.subject != member.value:
        problems.add("subject", f"differs from {FIELD}.sub")
    return member.value if isinstance(member.value, str) else None


def _audience(
    given: dict[str, Member],
    request: ClaimsRequest,
    problems: _Problems,
) -> tuple[tuple[str, ...], str | None]:
    """Return the audiences, and the JSON text of `aud` in the shape that it was asked for."""
    asked = tuple(request.audience)
    for i, name in enumerate(asked):
        if not name:
            problems.add(f"audience[{i}]", "must not be empty")
    member = given.get("aud")
    if member is None:
        if not asked:
            return (), None
        return asked, json.dumps(asked[0] if len(asked) == 1 else asked, ensure_ascii=False, separators=(",", ":"))
    values = member.value if isinstance(member.value, list) else [member.value]
    if not values or not all(type(v) is str and v for v in values):
        problems.add(f"{FIELD}.aud", "must be a string or a list of strings, none of them empty")
        return (), None
    if asked and asked != tuple(values):
        problems.add("audience", f"differs from {FIELD}.aud")
    return tuple(values), member.raw


def _number(given: dict[str, Member], name: str, problems: _Problems) -> int | None:
    """Return a NumericDate claim; RFC 7519 §2 allows fractions, but whole seconds are what every verifier reads."""
    member = given.get(name)
    if member is None:
        return None
    if type(member.value) is not int:
        problems.add(f"{FIELD}.{name}", "must be a whole number of seconds since the epoch")
        return None
    return member.value


def _expire_time(
    given: dict[str, Member],
    request: ClaimsRequest,
    policy: ClaimsPolicy,
    issue_time: int,
    problems: _Problems,
) -> int:
    lifetime = policy.default_lifetime if request.lifetime is None else request.lifetime
    path = "lifetime"
    if lifetime.microseconds:
        problems.add(path, "must be whole seconds")
    expire_time = issue_time + lifetime // timedelta(seconds=1)
    claimed = _number(given, "exp", problems)
    if claimed is not None:
        path = f"{FIELD}.exp"
        if request.lifetime is not None and claimed != expire_time:
            problems.add("lifetime", f"differs from {FIELD}.exp")
        expire_time = claimed
    if expire_time <= issue_time:
        problems.add(path, "the token would have expired when it is issued")
    elif expire_time > issue_time + policy.max_lifetime // timedelta(seconds=1):
        limit = f"the token would live longer than {policy.max_lifetime // timedelta(seconds=1)} s"
        milliseconds = claimed is not None and len(str(claimed)) == _MILLISECOND_DIGITS
        problems.add(path, limit + (" (milliseconds? seconds are meant)" if milliseconds else ""), LifetimeTooLongError)
    return expire_time


def _not_before(given: dict[str, Member], request: ClaimsRequest, expire_time: int, problems: _Problems) -> int | None:
    asked = None if request.not_before is None else int(request.not_before.astimezone(UTC).timestamp())
    claimed = _number(given, "nbf", problems)
    if claimed is not None and asked is not None and claimed != asked:
        problems.add("not_before", f"differs from {FIELD}.nbf")
    not_before = asked if claimed is None else claimed
    path = "not_before" if claimed is None else f"{FIELD}.nbf"
    if not_before is not None and not_before < 0:
        problems.add(path, "lies before the epoch")
    if not_before is not None and not_before >= expire_time:
        problems.add(path, "the token would expire before it is valid")
    return not_before


def _jwt_id(given: dict[str, Member], policy: ClaimsPolicy, fresh: str, problems: _Problems) -> str:
    member = given.get("jti")
    if member is None:
        return fresh
    if not policy.caller_chooses_jti:
        problems.add(f"{FIELD}.jti", "set by the service", ClaimNotAllowedError)
        return fresh
    if not isinstance(member.value, str) or not member.value:
        problems.add(f"{FIELD}.jti", "must be a string that is not empty")
        return fresh
    return str(member.value)
