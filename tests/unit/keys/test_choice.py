"""Which protection a key needs to sign (I12)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sealwright.keys.choice import LOWER_PROTECTION, UNKNOWN_PROTECTION, level, normal, objection, strong
from sealwright.keys.lifecycle import Key

from .history import EPOCH, new_key, span

NOW = EPOCH + span(100)
ORDER = ["a", "b", "c"]


def key(kid: str, series: str, protection: str | None, ordinal: int = 1, ready: int | None = 0) -> Key:
    made = new_key(kid, series, ordinal, EPOCH)
    ready_time = None if ready is None else EPOCH + span(ready)
    return replace(made, protection=protection, ready_time=ready_time)


def kids(keys: list[Key]) -> str:
    return "".join(k.kid for k in strong(keys, NOW, ORDER))


def test_i12_the_levels_have_an_order_and_what_was_not_noted_is_software() -> None:
    levels = [level(key("x", "a", p)) for p in (None, "software", "external", "hsm")]
    assert levels == sorted(levels)
    assert levels[0] == levels[1] < levels[2] < levels[3]


@pytest.mark.parametrize(
    ("judge", "other", "reason"),
    [
        (None, None, UNKNOWN_PROTECTION),
        (None, "software", UNKNOWN_PROTECTION),
        (None, "external", UNKNOWN_PROTECTION),
        (None, "hsm", None),
        ("software", None, None),
        ("external", None, UNKNOWN_PROTECTION),
        ("hsm", None, UNKNOWN_PROTECTION),
        ("hsm", "external", LOWER_PROTECTION),
    ],
)
def test_i12_a_level_that_is_not_known_never_helps_a_key_to_sign(
    judge: str | None, other: str | None, reason: str | None
) -> None:
    assert objection(key("y", "b", other), key("x", "a", judge)) == reason
    assert objection(key("x", "a", judge), key("x", "a", judge)) is None, "the normal key itself signs"


@pytest.mark.parametrize(("first", "able"), [("hsm", "xz"), ("external", "xyz"), ("software", "wxyz"), (None, "xz")])
def test_i12_keys_that_are_protected_less_than_the_first_are_left_out(first: str | None, able: str) -> None:
    keys = [key("x", "a", first), key("w", "b", "software"), key("y", "c", "external"), key("z", "c", "hsm", 2)]
    found = kids(keys)
    assert sorted(found) == sorted(able)


def test_i12_the_first_series_with_a_key_that_was_ever_ready_counts_whatever_became_of_it() -> None:
    weak = key("w", "b", "software")
    assert kids([key("x", "a", "hsm", ready=None), weak]) == "xw"
    assert kids([key("x", "a", "hsm", ready=101), weak]) == "xw"
    assert kids([key("x", "a", "hsm", ready=100), weak]) == "x"
    for gone in ("retire_time", "revoke_time"):
        assert kids([replace(key("x", "a", "hsm"), **{gone: NOW}), weak]) == "x"  # type: ignore[arg-type]
    assert normal([], NOW, ORDER) is None


def test_i12_the_active_key_counts_and_not_its_standby() -> None:
    keys = [key("x", "a", "software"), key("y", "a", "hsm", 2), key("w", "b", "software")]
    assert kids(keys) == "xyw"
    assert kids([replace(keys[0], retire_time=NOW), *keys[1:]]) == "y"


def test_i12_series_that_were_removed_do_not_count() -> None:
    assert kids([key("x", "old", "hsm"), key("w", "b", "software")]) == "w"
