"""The configuration: one TOML file, checked whole, composed of the settings that each package defines."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from sealwright.access.patterns import compile_pattern
from sealwright.access.settings import GrantSettings
from sealwright.audit.settings import AuditSettings
from sealwright.errors import ConfigurationError
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.keys.settings import IssuerSettings, SeriesSettings, TimingSettings
from sealwright.kms.registry import load_factory
from sealwright.provider import ProviderSettings
from sealwright.server.settings import ServerSettings
from sealwright.settings import Settings, check_name
from sealwright.sql.settings import StoreSettings

_NGINX_BUFFER: Final = 4096
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SAYS: Final[Mapping[str, str]] = {
    "extra_forbidden": "unknown key",
    "missing": "must be given",
    "string_type": "must be text",
    "string_unicode": "must be text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "string_pattern_mismatch": "must match {pattern}",
    "string_too_short": "must have {min_length} characters or more",
    "string_too_long": "must have {max_length} characters at the most",
    "too_short": "must have {min_length} or more entries",
    "too_long": "must have {max_length} entries at the most",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be {le} at the most",
    "multiple_of": "must be a multiple of {multiple_of}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
}
"""What pydantic means, in the words of whoever writes the file."""


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

    server: ServerSettings
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
    except UnicodeDecodeError as e:
        raise ConfigurationError([f"{path}: not TOML: byte {e.start} is no UTF-8"]) from e
    except tomllib.TOMLDecodeError as e:
        raise ConfigurationError([f"{path}: not TOML: {e}"]) from e
    except (ValueError, RecursionError) as e:  # a number of thousands of digits, thousands of brackets
        raise ConfigurationError([f"{path}: a number or a list in it is beyond all measure"]) from e


def parse(document: Mapping[str, Any]) -> Config:
    """Check a configuration.

    Args:
        document: The TOML document.

    Raises:
        ConfigurationError: With every problem, each with its path.
    """
    problems: list[str] = []
    values = dict(document)
    if "providers" in document:
        values["providers"], provider_problems = _providers(document)
    else:
        provider_problems = []
    try:
        config = Config.model_validate(values)
    except ValidationError as e:
        problems += [_problem(error) for error in e.errors()]
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
    for i, grant in enumerate(config.grants):
        for j, pattern in enumerate(grant.issuers):
            if not any(compile_pattern(pattern).fullmatch(issuer.name) for issuer in config.issuers):
                yield f"grants[{i}].issuers[{j}]: there is no such issuer"
    for i, issuer in enumerate(config.issuers):
        limits = issuer.limits(config.timing)
        size = sum(
            ALGORITHMS[s.algorithm].jwk_size(s.rsa_bits) * _keys_published(s, issuer, config.timing)
            for s in issuer.series
        )
        for limit, reader in (
            (_NGINX_BUFFER, "nginx's default buffer"),
            (4 * _NGINX_BUFFER, "mod_auth_openidc's cache"),
        ):
            if size > limit:
                yield f"issuers[{i}]: its JWK Set may have about {size} bytes, more than {reader} of {limit} holds"
        for j, series in enumerate(issuer.series):
            if series.rotation_period is not None and series.rotation_period < limits.scheduled_wait:
                yield (
                    f"issuers[{i}].series[{j}].rotation_period: a standby waits for {limits.scheduled_wait} "
                    "before a scheduled rotation, so keys sign for longer than this"
                )


def _providers(document: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Check each provider with the model of its kind."""
    tables = document["providers"]
    if not isinstance(tables, Mapping):
        return {}, ["providers: must be a table of tables"]
    plugins = document.get("plugins")
    found: dict[str, Any] = {}
    problems: list[str] = []
    for name, table in tables.items():
        path = _path(("providers", name))
        try:
            check_name(name)
        except ValueError as e:
            problems.append(f"{path}: its name {e}")
        if not isinstance(table, Mapping):
            problems.append(f"{path}: must be a table")
        elif not isinstance(table.get("kind"), str):
            problems.append(f"{path}.kind: must be {'text' if 'kind' in table else 'given'}")
        else:
            try:
                factory = load_factory(table["kind"], _list(plugins))
                found[name] = factory.settings.model_validate(dict(table))
            except ConfigurationError as e:
                problems += [f"{path}.kind: {p}" for p in e.problems]
            except ValidationError as e:
                problems += [_problem(error, "providers", name) for error in e.errors()]
    return found, problems


def _across(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the problems between tables. They are looked for in the raw document, so that no other problem hides them."""
    taken_names = _Taken("has the same")
    taken_paths = _Taken("has the same path, so their JWK Sets would be one")
    tables = document.get("providers", {})
    for i, issuer in enumerate(_list(document.get("issuers"))):
        if not isinstance(issuer, Mapping):
            continue
        yield from taken_names.by(issuer.get("name"), f"issuers[{i}]", "name")
        yield from taken_paths.by(_url_path(issuer.get("url")), f"issuers[{i}]", "url")
        taken_series = _Taken("has the same")
        for j, series in enumerate(_list(issuer.get("series"))):
            if not isinstance(series, Mapping):
                continue
            yield from taken_series.by(series.get("name"), f"issuers[{i}].series[{j}]", "name")
            provider = series.get("provider")
            if isinstance(provider, str) and isinstance(tables, Mapping) and provider not in tables:
                yield f"issuers[{i}].series[{j}].provider: there is no provider of that name"


class _Taken:
    """Values that may stand in one place only."""

    def __init__(self, problem: str) -> None:
        self._problem = problem
        self._places: dict[str, str] = {}

    def by(self, value: Any, place: str, key: str) -> Iterator[str]:
        """Take a value for a place, and yield a problem where another has it."""
        if isinstance(value, str) and (other := self._places.setdefault(value, place)) != place:
            yield f"{place}.{key}: {other} {self._problem}"


def _url_path(url: Any) -> str | None:
    """Return where the JWK Set of an issuer's URL would be served, whatever else is wrong with the URL."""
    if not isinstance(url, str) or "://" not in url:
        return None
    return url.partition("://")[2].partition("/")[2].rstrip("/")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _path(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE_KEY.fullmatch(part) else json.dumps(part))
    return text


def _problem(error: ErrorDetails, *prefix: str) -> str:
    """Say what is wrong, and never with what value: a secret may stand where it does not belong."""
    says = _SAYS.get(error["type"])
    text = says.format(**error.get("ctx", {})) if says else error["msg"].removeprefix("Value error, ")
    return f"{_path((*prefix, *error['loc']))}: {text}"


def _keys_published(series: SeriesSettings, issuer: IssuerSettings, timing: TimingSettings) -> int:
    """Return how many keys of a series a JWK Set holds: active, standby, and those retired for less than the tail."""
    limits = issuer.limits(timing)
    if series.rotation_period is None:
        return 3
    return 2 + -(-limits.tail // max(series.rotation_period, limits.scheduled_wait))
