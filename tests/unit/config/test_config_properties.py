"""Every document is accepted or refused, and never raises another error."""

from __future__ import annotations

from datetime import date, datetime, time
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealwright.config import parse, warnings
from sealwright.errors import ConfigurationError

from .samples import at, sample

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(
        ["aws", "ES256", "1s", "https://a/b", "127.0.0.1:1", "unix:/a", "**", "signer", "a\0", "sqlite:////a"]
    )
    | st.sampled_from([date(2026, 1, 1), datetime(2026, 1, 1), time(1)])  # noqa: DTZ001 - TOML has local times
)
KEYS = st.sampled_from(["name", "url", "kind", "series", "provider", "path", "grpc", "jwks", "caller"]) | st.text(
    max_size=5
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8
)
TABLES = ["server", "timing", "store", "audit", "plugins", "providers", "issuers", "grants"]


def check(document: dict[str, Any]) -> None:
    problems: tuple[str, ...] = ("none",)
    try:
        list(warnings(parse(document)))
    except ConfigurationError as error:
        problems = error.problems
    assert problems
    assert not any("\n" in problem for problem in problems)


@given(st.dictionaries(st.sampled_from(TABLES) | st.text(max_size=5), VALUES, max_size=8))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_document_of_anything_is_taken_or_refused(document: dict[str, Any]) -> None:
    check(document)


def places(part: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path] if path else []
    items = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, value in items:
        found += places(value, (*path, key))
    return found


@given(st.lists(st.tuples(st.sampled_from(places(sample())), VALUES), min_size=1, max_size=2))
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_sample_with_anything_anywhere_is_taken_or_refused(
    changes: list[tuple[tuple[str | int, ...], Any]],
) -> None:
    document = sample()
    for (*parents, last), value in changes:
        try:
            at(document, *parents)[last] = value
        except (TypeError, IndexError, AttributeError, KeyError):
            continue  # an earlier change took the place away
    check(document)
