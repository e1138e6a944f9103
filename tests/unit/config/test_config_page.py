"""docs/configuration.md: what it shows is valid, and it names every setting and no other."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from sealwright.config import Config, parse, warnings
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.kms.registry import BUILT_IN, load_factory

from .samples import problems

PAGE = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
BLOCKS = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
LINES = BLOCKS[0].splitlines()
OPTIONS = [n for n, line in enumerate(LINES) if re.match(r"# \w+ = ", line)]
ALL = tomllib.loads("\n".join(line.removeprefix("# ") if n in OPTIONS else line for n, line in enumerate(LINES)))
"""The example with every option in its comments."""

INSTEAD = {
    "insecure_local": "server.tls: has no effect, because insecure_local is set; remove one of them",
    "token_serial": "providers.hsm.token_serial: give either token_label or token_serial",
    "client_certificate_file": (
        "providers.azure-eu.client_certificate_file: client_certificate_file is for credential 'client_certificate', "
        "not 'client_secret'"
    ),
    "pin_env": "providers.hsm.pin_env: give either pin_file or pin_env",
    "insecure_endpoint": (
        "providers.gcp-eu.insecure_endpoint: is permitted only where endpoint is a loopback address, such as 127.0.0.1:9000"
    ),
}
"""Options that cannot be added to the example, and why."""

UNOFFERED = {"issuers.series.create"}
"""Must be true as long as no RPC registers keys (F44)."""


def test_the_documented_configuration_is_valid_and_needs_no_warning() -> None:
    assert len(BLOCKS) == 1
    assert list(warnings(parse(tomllib.loads(BLOCKS[0])))) == []


@pytest.mark.parametrize("n", OPTIONS, ids=lambda n: LINES[n].split()[1])
def test_each_option_in_the_comments_may_be_added(n: int) -> None:
    added = LINES[n].removeprefix("# ")
    found = problems(tomllib.loads("\n".join([*LINES[:n], added, *LINES[n + 1 :]])))
    excuse = INSTEAD.get(added.split()[0])
    assert found == ([excuse] if excuse else [])


def table_of(annotation: Any) -> type[BaseModel] | None:
    """Return the settings in an annotation such as `list[IssuerSettings]` or `TlsSettings | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for a in get_args(annotation) if (m := table_of(a))), None)


def settings_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        table = table_of(field.annotation)
        if path == "providers":
            for kind in BUILT_IN:
                yield from settings_of(load_factory(kind).settings, f"providers.{kind}.")
        elif table is not None:
            yield from settings_of(table, f"{path}.")
        else:
            yield path


def named_in(value: Any, prefix: str = "") -> Iterator[str]:
    for name, part in value.items():
        path = f"{prefix}{name}"
        if path == "providers":
            for provider in part.values():
                yield from named_in(provider, f"providers.{provider['kind']}.")
        elif isinstance(part, dict):
            yield from named_in(part, f"{path}.")
        elif isinstance(part, list) and part and isinstance(part[0], dict):
            for one in part:
                yield from named_in(one, f"{path}.")
        else:
            yield path


SETTINGS = set(settings_of(Config))
COMMON = ("timeout", "manage_timeout", "max_in_flight", "max_queue", "max_creations_per_minute", "max_calls_per_second")
GUARD = {f"providers.{kind}.{name}" for kind in BUILT_IN for name in COMMON}
"""Settings of every provider. The page shows them once, and names them for another kind."""


def test_the_page_names_every_setting_and_no_other() -> None:
    assert len(SETTINGS) > 50
    assert set(named_in(ALL)) | GUARD == SETTINGS - UNOFFERED
    (also,) = re.findall(r"# also has (.*)", PAGE)
    assert set(re.findall(r"\w+", also)) - {"and"} == {path.rpartition(".")[2] for path in GUARD}


def test_the_text_names_no_other_setting_either() -> None:
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    names = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", prose))
    assert names
    assert names <= {path.rpartition(".")[2] for path in SETTINGS}


def test_the_page_lists_every_algorithm() -> None:
    section = PAGE.partition("## Algorithms")[2].partition("\n## ")[0]
    assert set(re.findall(r"`((?:RS|PS|ES|HS|Ed|ML-)[\w-]+)`", section)) == set(ALGORITHMS)


@pytest.mark.parametrize("word", ["registrar", "RegisterKey", r"\bcreate = "])
def test_f44_the_page_offers_nothing_that_does_not_exist(word: str) -> None:
    assert not re.search(word, PAGE)
