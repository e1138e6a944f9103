"""Grants: what a caller may do.

A request that no grant allows gets the same error whether its issuer exists or not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Final

from sealwright.access.patterns import Pattern
from sealwright.access.settings import GrantSettings, Role
from sealwright.errors import CallerNotPermittedError

POWERLESS: Final = frozenset({Role.REGISTRAR})
"""Roles that the configuration accepts but that permit nothing, because their RPCs do not exist yet."""
_SIGNER: Final = frozenset({Role.SIGNER})
_REMEMBERED: Final = 4096
"""For how many callers and issuers it is remembered which grants they match. The names of issuers are the callers' text."""


# Loops and no generators, which cost three times as much for each part of each token.


def _match(patterns: Iterable[Pattern], value: str | None) -> bool:
    for pattern in patterns:  # noqa: SIM110 - see above
        if pattern.matches(value):
            return True
    return False


def _match_all(patterns: Iterable[Pattern], values: Iterable[str | None]) -> bool:
    for value in values:  # noqa: SIM110 - see above
        if not _match(patterns, value):
            return False
    return True


class Authoriser:
    """Decides by the grants of the configuration."""

    def __init__(self, grants: Iterable[GrantSettings]) -> None:
        self._grants = tuple(grants)
        self._matching = lru_cache(_REMEMBERED)(self._match_grants)

    def allows(self, caller: str, roles: Collection[Role], issuer: str) -> bool:
        """Return whether a caller has one of the roles for an issuer."""
        return bool(self._matching(caller, frozenset(roles), issuer))

    def require(self, caller: str, roles: Collection[Role], issuer: str) -> None:
        """Refuse a caller that has none of the roles for the issuer.

        Raises:
            CallerNotPermittedError: The caller has none of them. An issuer that does not exist gives the same error, so that
                callers cannot find out which issuers exist.
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
        """Refuse a token unless a single grant of the caller allows all of it.

        Raises:
            CallerNotPermittedError: No grant does. The error does not tell which part was not allowed.
        """
        for grant in self._matching(caller, _SIGNER, issuer):
            if (
                _match(grant.subjects, subject)
                and _match(grant.token_types, token_type)
                and _match_all(grant.audiences, audience or (None,))
            ):
                return
        raise CallerNotPermittedError("no grant allows this request")

    def _match_grants(self, caller: str, roles: frozenset[Role], issuer: str) -> tuple[GrantSettings, ...]:
        effective = roles - POWERLESS
        return tuple(
            g
            for g in self._grants
            if not effective.isdisjoint(g.roles) and g.caller.matches(caller) and _match(g.issuers, issuer)
        )
