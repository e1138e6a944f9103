from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any

import pytest

from sealwright.errors import ConfigurationError
from sealwright.kms import registry
from sealwright.kms.registry import BUILT_IN, GROUP, load_factory
from sealwright.provider import ProviderSettings
from sealwright_providers.aws import FACTORY

GOOD = SimpleNamespace(kind="vault", settings=ProviderSettings, open=None)
NAMELESS = SimpleNamespace(kind="vault", settings=ProviderSettings)
OTHER = SimpleNamespace(kind="other", settings=ProviderSettings, open=None)
EVIL = SimpleNamespace(kind="aws", settings=ProviderSettings, open=None)


def install(monkeypatch: pytest.MonkeyPatch, *entries: EntryPoint) -> None:
    def entry_points(*, group: str, name: str) -> list[EntryPoint]:
        assert group == GROUP
        return [e for e in entries if e.name == name]

    monkeypatch.setattr(registry, "entry_points", entry_points)


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, f"{__name__}:{value}", GROUP)


def problem(kind: str, *plugins: str) -> str:
    with pytest.raises(ConfigurationError) as raised:
        load_factory(kind, plugins)
    (text,) = raised.value.problems
    return text


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    # pytest imports test modules in its own way, but entry points import by name.
    module: Any = SimpleNamespace(GOOD=GOOD, NAMELESS=NAMELESS, OTHER=OTHER, EVIL=EVIL)
    monkeypatch.setitem(sys.modules, __name__, module)


def test_a_built_in_kind_wins_over_a_plug_in_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, entry("aws", "EVIL"))
    assert load_factory("aws", ["aws"]) is FACTORY


def test_every_built_in_kind_can_be_loaded_and_bears_its_name() -> None:
    for kind in BUILT_IN:
        factory = load_factory(kind)
        assert factory.kind == kind
        assert issubclass(factory.settings, ProviderSettings)


def test_a_plug_in_must_be_named_in_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, entry("vault", "GOOD"))
    found: object = load_factory("vault", ["vault"])
    assert found is GOOD
    assert "must be named" in problem("vault")
    assert "aws" in problem("vault", "another")


def test_a_kind_that_nobody_or_more_than_one_offers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    assert problem("vault", "vault").startswith("0 installed packages")
    install(monkeypatch, entry("vault", "GOOD"), entry("vault", "OTHER"))
    assert problem("vault", "vault").startswith("2 installed packages")


@pytest.mark.parametrize(
    ("value", "said"),
    [("NAMELESS", "lacks open"), ("OTHER", "calls itself 'other'"), ("MISSING", "cannot be imported")],
)
def test_a_plug_in_that_is_no_good_is_a_problem_of_the_configuration(
    monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    install(monkeypatch, entry("vault", value))
    assert said in problem("vault", "vault")


def test_a_plug_in_whose_own_sdk_is_missing_is_a_problem_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, EntryPoint("vault", "no_such_package:FACTORY", GROUP))
    assert "ModuleNotFoundError" in problem("vault", "vault")
