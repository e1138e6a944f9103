"""The configuration: composes and checks the settings that each package defines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from sealwright.access.settings import GrantSettings
from sealwright.audit.settings import AuditSettings
from sealwright.config.across import list_or_empty, problems_across
from sealwright.config.wording import describe, path_of
from sealwright.errors import ConfigurationError
from sealwright.issuer_settings import IssuerSettings
from sealwright.keys.settings import TimingSettings
from sealwright.kms.registry import load_factory
from sealwright.provider import ProviderSettings
from sealwright.server.settings import ServerSettings
from sealwright.settings import Settings, check_name
from sealwright.sql.settings import StoreSettings


class Config(Settings):
    """A complete configuration.

    Attributes:
        server: Listeners.
        timing: Tolerances for clocks, reads of the store and caches.
        store: Where the service keeps its state.
        audit: Where the audit records are written.
        plugins: Kinds of provider that are allowed in addition to the built-in ones.
        providers: Providers by name. Each kind has its own fields.
        issuers: The issuers of tokens.
        grants: What callers may do. Without grants, no caller may do anything.
    """

    server: ServerSettings
    timing: TimingSettings = Field(default_factory=TimingSettings)
    store: StoreSettings
    audit: AuditSettings
    plugins: list[str] = Field(default=[])
    providers: dict[str, ProviderSettings]
    issuers: list[IssuerSettings] = Field(min_length=1)
    grants: list[GrantSettings] = Field(default=[])

    @property
    def metrics_directory(self) -> Path | None:
        """Where several workers keep their metrics; None: nowhere in particular."""
        if self.server.metrics_path is not None:
            return Path(self.server.metrics_path)
        file = self.store.dialect.file_of(self.store.url)
        return None if file is None else file.with_name(f".{file.name}-metrics")


def parse(document: Mapping[str, Any]) -> Config:
    """Check a configuration.

    Args:
        document: The TOML document.

    Raises:
        ConfigurationError: The configuration is invalid. The error has every problem, each with its path.
    """
    problems: list[str] = []
    values = dict(document)
    provider_problems: list[str] = []
    if "providers" in document:
        values["providers"], provider_problems = _providers(document)
    try:
        config = Config.model_validate(values)
    except ValidationError as e:
        problems += [describe(error) for error in e.errors()]
        config = None
    problems += provider_problems
    problems += problems_across(document)
    if problems or config is None:
        raise ConfigurationError(problems)
    return config


def _providers(document: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Check each provider with the settings of its kind. Return the valid ones and the problems."""
    tables = document["providers"]
    if not isinstance(tables, Mapping):
        return {}, ["providers: must be a table of tables"]
    plugins = document.get("plugins")
    found: dict[str, Any] = {}
    problems: list[str] = []
    for name, table in tables.items():
        path = path_of(("providers", name))
        try:
            check_name(name)
        except ValueError as e:
            problems.append(f"{path}: the name {e}")
        if not isinstance(table, Mapping):
            problems.append(f"{path}: must be a table")
        elif not isinstance(table.get("kind"), str):
            problems.append(f"{path}.kind: must be {'text' if 'kind' in table else 'given'}")
        else:
            try:
                factory = load_factory(table["kind"], list_or_empty(plugins))
                found[name] = factory.settings.model_validate(dict(table))
            except ConfigurationError as e:
                problems += [f"{path}.kind: {p}" for p in e.problems]
            except ValidationError as e:
                problems += [describe(error, "providers", name) for error in e.errors()]
    return found, problems
