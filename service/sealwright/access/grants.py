"""Grants: what a caller may do. Whatever no grant allows is refused, in the same words whether it exists or not."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sealwright.access.patterns import ANYTHING, compile_pattern
from sealwright.access.settings import GrantSettings, Role
from sealwright.errors import CallerNotPermittedError


class _Patterns:
    """A list of patterns of one field."""

    def __init__(self, patterns: Iterable[str]) -> None:
        texts = list(patterns)
        self._any = ANYTHING in texts
        self._compiled: Sequence[re.Pattern[str]] = [compile_pattern(p) for p in texts]

    def allow(self, value: str | None) -> bool:
        """Tell whether one of the patterns matches; what is absent only matches `**`."""
        if self._any:
            return True
        return value is not None and any(p.fullmatch(value) for p in self._compiled)


@dataclass(frozen=True, slots=True)
class _Grant:
    caller: _Patterns
    roles: frozenset[Role]
    issuers: _Patterns
    subjects: _Patterns
    audiences: _Patterns
    token_types: _Patterns


class Authoriser:
    """Decides by the grants of the configuration."""

    def __init__(self, grants: Iterable[GrantSettings]) -> None:
        self._grants = [
            _Grant(
                caller=_Patterns([g.caller]),
                roles=frozenset(g.roles),
                issuers=_Patterns(g.issuers),
                subjects=_Patterns(g.subjects),
                audiences=_Patterns(g.audiences),
                token_types=_Patterns(g.token_types),
            )
            for g in grants
        ]

    def allows(self, caller: str, roles: Collection[Role], issuer: str) -> bool:
        """Tell whether a caller has one of some roles for an issuer."""
        return any(True for _ in self._matching(caller, roles, issuer))

    def require(self, caller: str, roles: Collection[Role], issuer: str) -> None:
        """Refuse a caller that has none of the roles for the issuer.

        Raises:
            CallerNotPermittedError: Likewise for issuers that do not exist, so that their names cannot be probed.
        """
        if not self.allows(caller, roles, issuer):
            raise CallerNotPermittedError("no grant allows this request")

    def require_signature(
        self,
        caller: str,
        issuer: str,
        *,
        subject: str | None,
        audience: Sequence[str],
        token_type: str,
    ) -> None:
        """Refuse a token that no single grant of the caller allows whole.

        Raises:
            CallerNotPermittedError: Without saying which part was not allowed.
        """
        for grant in self._matching(caller, {Role.SIGNER}, issuer):
            audiences = audience or (None,)
            if (
                grant.subjects.allow(subject)
                and grant.token_types.allow(token_type)
                and all(grant.audiences.allow(a) for a in audiences)
            ):
                return
        raise CallerNotPermittedError("no grant allows this request")

    def _matching(self, caller: str, roles: Collection[Role], issuer: str) -> Iterable[_Grant]:
        return (
            g
            for g in self._grants
            if not g.roles.isdisjoint(roles) and g.caller.allow(caller) and g.issuers.allow(issuer)
        )
