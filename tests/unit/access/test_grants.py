from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sealwright.access.grants import Authoriser
from sealwright.access.settings import GrantSettings, Role
from sealwright.errors import CallerNotPermittedError

CALLER = "spiffe://example.org/ns/payments/sa/signer"


def grant(**changes: Any) -> GrantSettings:
    return GrantSettings.model_validate(
        {
            "caller": CALLER,
            "roles": ["signer"],
            "issuers": ["payments"],
            "subjects": ["user/*"],
            "audiences": ["https://api.example.com/**"],
            "token_types": ["at+jwt"],
        }
        | changes
    )


def allows(
    grants: list[GrantSettings],
    *,
    caller: str = CALLER,
    issuer: str = "payments",
    subject: str | None = "user/1",
    audience: Sequence[str] = ("https://api.example.com/a",),
    token_type: str = "at+jwt",
) -> bool:
    try:
        Authoriser(grants).require_signature(caller, issuer, subject=subject, audience=audience, token_type=token_type)
    except CallerNotPermittedError as e:
        if str(e) != "no grant allows this request":
            raise AssertionError(str(e)) from e
        return False
    return True


def test_nothing_is_allowed_without_a_grant() -> None:
    assert not allows([])
    assert not Authoriser([]).allows(CALLER, set(Role), "payments")


def test_a_grant_allows_what_it_names() -> None:
    assert allows([grant()])


@pytest.mark.parametrize(
    "change",
    [
        {"caller": "spiffe://example.org/ns/payments/sa/other"},
        {"caller": "local"},
        {"caller": CALLER + "\n"},
        {"issuer": "ledger"},
        {"issuer": "payments/x"},
        {"subject": "admin/1"},
        {"subject": "user/"},
        {"subject": "user/1/2"},
        {"audience": ("https://evil.example.com/a",)},
        {"audience": ("https://api.example.com/a", "https://evil.example.com/a")},
        {"token_type": "JWT"},
        {"token_type": "AT+JWT"},
    ],
)
def test_one_part_that_is_not_granted_refuses_the_whole(change: dict[str, Any]) -> None:
    assert not allows([grant()], **change)


def test_two_grants_do_not_combine() -> None:
    grants = [
        grant(subjects=["alice"], audiences=["a"], token_types=["JWT"]),
        grant(subjects=["bob"], audiences=["b"], token_types=["at+jwt"]),
    ]
    assert allows(grants, subject="alice", audience=["a"], token_type="JWT")
    assert allows(grants, subject="bob", audience=["b"], token_type="at+jwt")
    assert not allows(grants, subject="alice", audience=["b"], token_type="JWT")
    assert not allows(grants, subject="alice", audience=["a"], token_type="at+jwt")
    assert not allows(grants, subject="alice", audience=["a", "b"], token_type="JWT")


def test_a_role_for_one_issuer_and_signing_for_another_do_not_combine() -> None:
    grants = [
        grant(issuers=["payments"]),
        grant(issuers=["ledger"], roles=["rotator"], subjects=["**"], audiences=["**"], token_types=["**"]),
    ]
    assert not allows(grants, issuer="ledger")
    assert not Authoriser(grants).allows(CALLER, {Role.ROTATOR}, "payments")
    assert Authoriser(grants).allows(CALLER, {Role.ROTATOR}, "ledger")


@given(st.lists(st.tuples(*[st.sampled_from(["a", "b", "**"])] * 3), max_size=4), st.data())
def test_a_request_is_allowed_exactly_if_one_grant_allows_all_of_it(
    rows: list[tuple[str, str, str]], data: st.DataObject
) -> None:
    subject = data.draw(st.sampled_from(["a", "b", "x", None]))
    audience = data.draw(st.lists(st.sampled_from(["a", "b", "x"]), max_size=2))
    token_type = data.draw(st.sampled_from(["a", "b", "x"]))

    def covers(row: tuple[str, str, str]) -> bool:
        subjects, audiences, types = row
        return (
            subjects in {"**", subject}
            and (audiences == "**" or (audience != [] and set(audience) <= {audiences}))
            and types in {"**", token_type}
        )

    grants = [grant(subjects=[s], audiences=[a], token_types=[t]) for s, a, t in rows]
    asked = allows(grants, subject=subject, audience=audience, token_type=token_type)
    assert asked is any(map(covers, rows))


@pytest.mark.parametrize("pattern", ["*", "user/*", "user/**"])
def test_only_two_asterisks_allow_a_token_without_subject_or_audience(pattern: str) -> None:
    assert not allows([grant(subjects=[pattern])], subject=None)
    assert not allows([grant(audiences=[pattern])], audience=())
    assert allows([grant(subjects=["**"])], subject=None)
    assert allows([grant(audiences=[pattern, "**"])], audience=())


def test_each_audience_may_match_another_pattern_of_the_grant() -> None:
    assert allows([grant(audiences=["a", "b"])], audience=["b", "a"])
    assert not allows([grant(audiences=["a", "b"])], audience=["b", "a", "d"])


@pytest.mark.parametrize("role", [r for r in Role if r is not Role.REGISTRAR])
def test_a_role_allows_only_itself(role: Role) -> None:
    authoriser = Authoriser([grant(roles=[role.value])])
    assert {r for r in Role if authoriser.allows(CALLER, {r}, "payments")} == {role}
    authoriser.require(CALLER, {role, Role.AUDITOR}, "payments")


def test_f44_a_registrar_may_do_nothing() -> None:
    authoriser = Authoriser([grant(roles=["registrar"])])
    assert not authoriser.allows(CALLER, set(Role), "payments")
    with pytest.raises(CallerNotPermittedError):
        authoriser.require(CALLER, {Role.REGISTRAR}, "payments")


@pytest.mark.parametrize("role", [r for r in Role if r is not Role.SIGNER])
def test_no_other_role_may_sign(role: Role) -> None:
    assert not allows([grant(roles=[role.value], subjects=["**"], audiences=["**"], token_types=["**"])])


def test_issuers_that_exist_and_issuers_that_do_not_are_refused_in_the_same_words() -> None:
    authoriser = Authoriser([grant(), grant(caller="local", issuers=["ledger"])])
    said = []
    for issuer in ("ledger", "no-such-issuer"):
        with pytest.raises(CallerNotPermittedError) as by_role:
            authoriser.require(CALLER, {Role.SIGNER}, issuer)
        with pytest.raises(CallerNotPermittedError) as by_token:
            authoriser.require_signature(CALLER, issuer, subject="s", audience=["a"], token_type="JWT")
        said += [(str(e), e.violations, e.metadata) for e in (by_role.value, by_token.value)]
    assert said == said[:1] * 4


@pytest.mark.parametrize("missing", ["subjects", "audiences", "token_types"])
def test_a_signers_grant_names_all_three(missing: str) -> None:
    with pytest.raises(ValidationError, match=missing):
        grant(**{missing: []})
    assert grant(**{missing: []}, roles=["auditor"]).roles == [Role.AUDITOR]


@pytest.mark.parametrize(
    "change",
    [{"roles": []}, {"roles": ["root"]}, {"issuers": []}, {"issuers": ["pay*"]}, {"caller": ""}, {"unknown": 1}],
)
def test_a_grant_that_cannot_be_meant_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        grant(**change)
