"""Grants: a signer's names all three, and patterns are whole segments."""

from __future__ import annotations

from typing import Any

import pytest

from .samples import problems, problems_with, sample


@pytest.mark.parametrize("field", ["subjects", "audiences", "token_types"])
def test_a_signers_grant_names_all_three(field: str) -> None:
    document = sample()
    del document["grants"][0][field]
    assert problems(document) == [f"grants[0]: a signer's grant must name {field}"]
    document["grants"][0][field] = []
    assert problems(document) == [f"grants[0]: a signer's grant must name {field}"]


@pytest.mark.parametrize("roles", [["rotator"], ["revoker", "registrar"], ["auditor"]])
def test_a_grant_without_signer_names_none_of_them(roles: list[str]) -> None:
    document = sample()
    document["grants"] = [{"caller": "dns:ops.example.com", "roles": roles, "issuers": ["*"]}]
    assert problems(document) == []


@pytest.mark.parametrize("field", ["caller", "roles", "issuers"])
def test_who_may_do_what_where_must_be_said(field: str) -> None:
    document = sample()
    del document["grants"][0][field]
    assert problems(document) == [f"grants[0].{field}: must be given"]


@pytest.mark.parametrize("field", ["roles", "issuers"])
def test_a_grant_of_nothing_is_refused(field: str) -> None:
    assert problems_with(f"grants.0.{field}", []) == [f"grants[0].{field}: must have 1 or more entries"]


@pytest.mark.parametrize("role", ["SIGNER", "admin", "", 1, None])
def test_a_role_that_does_not_exist_is_refused(role: Any) -> None:
    (problem,) = problems_with("grants.0.roles", [role])
    assert problem == "grants[0].roles[0]: must be 'signer', 'rotator', 'revoker', 'registrar' or 'auditor'"


@pytest.mark.parametrize("pattern", ["", "a*", "*a", "**/a", "a/**/b", "***", "spiffe://example.org/sa-*"])
def test_a_pattern_that_would_not_mean_what_it_says_is_refused(pattern: str) -> None:
    for field in ("caller", "subjects", "audiences", "token_types", "issuers"):
        value = pattern if field == "caller" else ["x", pattern]
        (problem,) = problems_with(f"grants.0.{field}", value)
        assert problem.startswith("grants[0].caller: " if field == "caller" else f"grants[0].{field}[1]: ")
