"""Settings of grants."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from sealwright.access.patterns import check
from sealwright.settings import Settings

Pattern = Annotated[str, AfterValidator(check)]


class Role(StrEnum):
    """What a caller may do."""

    SIGNER = "signer"
    ROTATOR = "rotator"
    REVOKER = "revoker"
    REGISTRAR = "registrar"
    AUDITOR = "auditor"


class GrantSettings(Settings):
    """One grant. A request must be allowed whole by one of them.

    Attributes:
        caller: Pattern of the caller's name.
        roles: What it may do.
        issuers: Patterns of issuers' names.
        subjects: For a signer: patterns of `sub`; only `**` allows a token without one.
        audiences: For a signer: patterns that every `aud` must match one of; only `**` allows a token without one.
        token_types: For a signer: patterns of `typ`.
    """

    caller: Pattern
    roles: list[Annotated[Role, Field(strict=False)]] = Field(min_length=1)
    issuers: list[Pattern] = Field(min_length=1)
    subjects: list[Pattern] = Field(default=[])
    audiences: list[Pattern] = Field(default=[])
    token_types: list[Pattern] = Field(default=[])

    @model_validator(mode="after")
    def _signer_names_all_three(self) -> GrantSettings:
        missing = [n for n in ("subjects", "audiences", "token_types") if not getattr(self, n)]
        if Role.SIGNER in self.roles and missing:
            raise ValueError(f"a signer's grant must name {', '.join(missing)}")
        return self
