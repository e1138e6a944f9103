"""docs/providers and docs/verifiers.md: configurations are valid and complete, and tables say what the code says."""

from __future__ import annotations

import fnmatch
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from sealwright.jose.algorithms import ALGORITHMS
from sealwright.keys.making import TAG_DEPLOYMENT, TAG_INTENT, TAG_ISSUER, TAG_SERIES
from sealwright.kms.registry import load_factory
from sealwright_providers.aws.algorithms import KMS_ALGORITHMS

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("kind", ["aws", "azure", "gcp", "pkcs11"])
def test_the_configuration_of_a_page_is_valid_and_names_every_setting(kind: str) -> None:
    text, *_ = blocks(f"providers/{kind}.md", "toml")
    model = load_factory(kind).settings
    (table,) = tomllib.loads(text)["providers"].values()
    assert model.model_validate(table).kind == kind
    named = set(table) | set(re.findall(r"^# (\w+) = ", text, re.MULTILINE))
    assert named == set(model.model_fields)


@pytest.mark.parametrize("kind", ["aws", "azure", "gcp", "pkcs11"])
def test_the_defaults_of_a_page_are_those_of_the_code(kind: str) -> None:
    text, *_ = blocks(f"providers/{kind}.md", "toml")
    (table,) = tomllib.loads(text)["providers"].values()
    model = load_factory(kind).settings
    settings = model.model_validate(table)
    shared = ("timeout", "manage_timeout", "max_in_flight", "max_queue", "max_creations_per_minute")
    for name in (*shared, "message", "transport", "sessions"):
        if name in model.model_fields:
            assert getattr(settings, name) == model.model_fields[name].default, name


def actions(policy: dict[str, Any]) -> set[str]:
    return {action for statement in policy["Statement"] for action in statement["Action"]}


def test_the_policy_is_the_same_in_the_quick_start_and_in_terraform() -> None:
    text, _ = blocks("providers/aws.md", "json")
    policy = json.loads(text)
    assert json.loads(blocks("quickstart.md", "json")[0]) == policy
    (terraform,) = blocks("providers/aws.md", "terraform")
    assert set(re.findall(r'"(kms:[A-Z]\w+)"', terraform)) - {"kms:CallerAccount", "kms:KeyUsage"} == actions(policy)
    assert set(re.findall(r'sid += "(\w+)"', terraform)) == {s["Sid"] for s in policy["Statement"]}


def test_f12_the_quick_start_has_the_policy_that_keeps_others_from_the_tags() -> None:
    policies = [
        [json.loads(text) for text in blocks(page, "json")][1] for page in ("providers/aws.md", "quickstart.md")
    ]
    assert policies[0] == policies[1]
    (statement,) = policies[0]["Statement"]
    assert statement["Effect"] == "Deny"
    assert set(statement["Action"]) >= {"kms:TagResource", "kms:CreateKey"}
    (pattern,) = (statement["Condition"]["ForAnyValue:StringLike"]["aws:TagKeys"],)
    for tag in (TAG_DEPLOYMENT, TAG_INTENT, TAG_ISSUER, TAG_SERIES):
        assert fnmatch.fnmatchcase(tag, pattern)


def test_the_page_of_aws_lists_the_permissions_and_algorithms_of_the_code() -> None:
    page = (DOCS / "providers/aws.md").read_text()
    table = page.partition("| permission |")[2].partition("\n\n")[0]
    package = (DOCS.parent / "providers/sealwright_providers/aws/__init__.py").read_text()
    assert set(re.findall(r"kms:\w+", table)) == set(re.findall(r"kms:\w+", package))
    algorithms = page.partition("| algorithm | KeySpec |")[2].partition("\n\n")[0]
    named = {
        n for cell in re.findall(r"^\| (`.*?) \|", algorithms, re.MULTILINE) for n in re.findall(r"`([^`]+)`", cell)
    }
    assert named == set(KMS_ALGORITHMS)


def test_f50_verifiers_has_the_table_of_libraries_that_drop_a_set() -> None:
    table = (DOCS / "verifiers.md").read_text().partition("| algorithm of the key |")[2].partition("\n\n")[0]
    found: dict[str, tuple[str, ...]] = {}
    for names, libraries in re.findall(r"^\| ([A-Z].*?) \| (.*?) \|$", table, re.MULTILINE):
        found |= dict.fromkeys(names.split(", "), tuple(libraries.split(", ")))
    assert found == {name: a.dropped_by for name, a in ALGORITHMS.items() if a.dropped_by}
