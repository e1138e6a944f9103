"""Settings of grants."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, PlainValidator, model_validator

from sealwright.access.patterns import Pattern, parse_pattern
from sealwright.settings import Settings

PatternSetting = Annotated[Pattern, PlainValidator(parse_pattern)]


class Role(StrEnum):
    """What a caller may do. `registrar` permits nothing yet (see `access.grants.POWERLESS`)."""

    SIGNER = "signer"
    ROTATOR = "rotator"
    REVOKER = "revoker"
    REGISTRAR = "registrar"
    AUDITOR = "auditor"


class GrantSettings(Settings):
    """One grant. A single grant must allow a whole request.

    Attributes:
        caller: Pattern of the caller's name.
        roles: What the caller may do.
        issuers: Patterns of issuers' names.
        subjects: For a signer: patterns of `sub`. Only `**` allows a token without `sub`.
        audiences: For a signer: patterns of `aud`. Each audience must match one. Only `**` allows a token without `aud`.
        token_types: For a signer: patterns of `typ`.
    """

    caller: PatternSetting
    roles: list[Annotated[Role, Field(strict=False)]] = Field(min_length=1)
    issuers: list[PatternSetting] = Field(min_length=1)
    subjects: list[PatternSetting] = Field(default=[])
    audiences: list[PatternSetting] = Field(default=[])
    token_types: list[PatternSetting] = Field(default=[])

    @model_validator(mode="after")
    def _signer_names_all_three(self) -> GrantSettings:
        missing = [n for n in ("subjects", "audiences", "token_types") if not getattr(self, n)]
        if Role.SIGNER in self.roles and missing:
            raise ValueError(f"a signer's grant must name {', '.join(missing)}")
        return self
