"""The configuration: one TOML file, checked whole, composed of the settings that each package defines."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from sealwright.access.settings import GrantSettings
from sealwright.audit.settings import AuditSettings
from sealwright.errors import ConfigurationError
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.keys.settings import IssuerSettings, TimingSettings
from sealwright.kms.registry import load_factory
from sealwright.kms.settings import ProviderSettings
from sealwright.server.settings import ServerSettings
from sealwright.settings import NAME_PATTERN, Settings
from sealwright.sql.settings import StoreSettings

_NGINX_BUFFER = 4096
_KEYS_PUBLISHED = 3
"""Retired, active and standby."""


class Config(Settings):
    """A whole configuration.

    Attributes:
        server: Listeners.
        timing: Clocks, reads of the store and caches.
        store: Where state is kept.
        audit: Where records go.
        plugins: Kinds of provider that are allowed beyond the built-in ones.
        providers: By name. Each kind has fields of its own.
        issuers: Who the tokens are from.
        grants: Who may do what; none: nobody may do anything.
    """

    server: ServerSettings = Field(default_factory=ServerSettings)
    timing: TimingSettings = Field(default_factory=TimingSettings)
    store: StoreSettings
    audit: AuditSettings
    plugins: list[str] = Field(default=[])
    providers: dict[str, ProviderSettings]
    issuers: list[IssuerSettings] = Field(min_length=1)
    grants: list[GrantSettings] = Field(default=[])


def load(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigurationError: With every problem.
    """
    return parse(read(path))


def read(path: Path) -> dict[str, Any]:
    """Read a configuration file, unchecked.

    Raises:
        ConfigurationError: It cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigurationError([f"{path}: {e.strerror}"]) from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigurationError([f"{path}: not TOML: {e}"]) from e


def parse(document: Mapping[str, Any]) -> Config:
    """Check a configuration.

    Args:
        document: The TOML document.

    Raises:
        ConfigurationError: With every problem, each with its path.
    """
    problems: list[str] = []
    providers, provider_problems = _providers(document)
    values = {**document, "providers": providers}
    try:
        config = Config.model_validate(values)
    except ValidationError as e:
        problems += [f"{_path(error['loc'])}: {_message(error['msg'])}" for error in e.errors()]
        config = None
    problems += provider_problems
    problems += _across(document)
    if problems or config is None:
        raise ConfigurationError(problems)
    return config


def warnings(config: Config) -> Iterator[str]:
    """Yield what is allowed, but may not be meant."""
    if not config.grants:
        yield "grants: there are none, so nobody may do anything"
    for i, issuer in enumerate(config.issuers):
        size = sum(_jwk_size(s.algorithm, s.rsa_bits) * _KEYS_PUBLISHED for s in issuer.series)
        for limit, reader in (
            (_NGINX_BUFFER, "nginx's default buffer"),
            (4 * _NGINX_BUFFER, "mod_auth_openidc's cache"),
        ):
            if size > limit:
                yield f"issuers[{i}]: its JWK Set may have about {size} bytes, more than {reader} of {limit} holds"


def _providers(document: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Check each provider with the model of its kind."""
    tables = document.get("providers", {})
    if not isinstance(tables, Mapping):
        return {}, ["providers: must be a table of tables"]
    plugins = document.get("plugins", [])
    found: dict[str, Any] = {}
    problems: list[str] = []
    for name, table in tables.items():
        path = f"providers.{name}"
        try:
            _check_name(name)
            if not isinstance(table, Mapping) or not isinstance(table.get("kind"), str):
                raise ConfigurationError(["kind: must be given"])  # noqa: TRY301
            factory = load_factory(table["kind"], plugins if isinstance(plugins, list) else [])
            found[name] = factory.settings.model_validate(dict(table))
        except ConfigurationError as e:
            problems += [f"{path}.{p}" if p.startswith("kind:") else f"{path}: {p}" for p in e.problems]
        except ValidationError as e:
            problems += [f"{path}.{_path(error['loc'])}: {_message(error['msg'])}" for error in e.errors()]
    return found, problems


class _Name(BaseModel):
    name: str = Field(pattern=NAME_PATTERN)


def _check_name(name: str) -> None:
    try:
        _Name(name=name)
    except ValidationError:
        raise ConfigurationError(["the name must be lower-case letters, digits and hyphens"]) from None


def _across(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the problems between tables. They are looked for in the raw document, so that no other problem hides them."""
    issuers = [i for i in _list(document.get("issuers")) if isinstance(i, Mapping)]
    names: dict[Any, int] = {}
    paths: dict[str, int] = {}
    tables = document.get("providers")
    providers = tables if isinstance(tables, Mapping) else {}
    for i, issuer in enumerate(issuers):
        name, url = issuer.get("name"), issuer.get("url")
        if isinstance(name, str) and names.setdefault(name, i) != i:
            yield f"issuers[{i}].name: issuers[{names[name]}] has the same"
        if isinstance(url, str) and "://" in url:
            path = "/" + url.partition("://")[2].partition("/")[2].rstrip("/")
            if paths.setdefault(path, i) != i:
                yield f"issuers[{i}].url: issuers[{paths[path]}] has the same path, so their JWK Sets would be one"
        for j, series in enumerate(_list(issuer.get("series"))):
            provider = series.get("provider") if isinstance(series, Mapping) else None
            if isinstance(provider, str) and provider not in providers:
                yield f"issuers[{i}].series[{j}].provider: there is no provider of that name"


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _path(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _message(text: str) -> str:
    text = text.removeprefix("Value error, ")
    return {"Extra inputs are not permitted": "unknown key", "Field required": "must be given"}.get(text, text)


def _jwk_size(algorithm: str, rsa_bits: int) -> int:
    coordinate = ALGORITHMS[algorithm].coordinate_size
    members = 8 * coordinate // 3 if coordinate else rsa_bits // 6
    return members + 130
