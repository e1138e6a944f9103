"""docs/providers/gcp.md: the configuration is valid and complete, and tables say what the code says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from sealwright_providers.gcp.algorithms import KMS_ALGORITHMS
from sealwright_providers.gcp.settings import GcpSettings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/providers/gcp.md").read_text()


def block(language: str) -> str:
    return str(re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[0])


def permissions(text: str) -> set[str]:
    return set(re.findall(r"cloudkms\.(?:cryptoKeyVersions|cryptoKeys|keyRings)\.\w+", text))


def test_the_configuration_is_valid_names_every_setting_and_has_the_defaults_of_the_code() -> None:
    (table,) = tomllib.loads(block("toml"))["providers"].values()
    settings = GcpSettings.model_validate(table)
    named = set(table) | set(re.findall(r"^# (\w+) = ", block("toml"), re.MULTILINE))
    assert named == set(GcpSettings.model_fields)
    for name in ("timeout", "manage_timeout", "max_in_flight", "max_queue", "endpoint"):
        assert getattr(settings, name) == GcpSettings.model_fields[name].default, name


def test_the_role_is_the_same_in_the_table_in_gcloud_in_terraform_and_in_the_package() -> None:
    table = PAGE.partition("| permission |")[2].partition("\n\n")[0]
    package = (ROOT / "providers/sealwright_providers/gcp/__init__.py").read_text()
    assert permissions(table) == permissions(block("sh")) == permissions(block("terraform")) == permissions(package)


def test_the_algorithms_are_those_of_the_code() -> None:
    table = PAGE.partition("| algorithm | CryptoKeyVersionAlgorithm |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (`.*?) \| (.*?) \| ", table, re.MULTILINE)
    named = {name for cell, _ in rows for name in re.findall(r"`([^`]+)`", cell)}
    versions = {name for _, cell in rows for name in re.findall(r"`([^`]+)`", cell)}
    assert named == set(KMS_ALGORITHMS)
    assert versions == {v for kms in KMS_ALGORITHMS.values() for v in kms.versions.values()}
