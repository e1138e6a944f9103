"""The page on Azure says what the code says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from sealwright.provider import ProviderSettings
from sealwright_providers.azure import errors
from sealwright_providers.azure.settings import AzureSettings

PAGE = (Path(__file__).parent.parent.parent / "docs" / "providers" / "azure.md").read_text()


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))
def test_the_configurations_are_valid(text: str) -> None:
    for table in tomllib.loads(text)["providers"].values():
        AzureSettings.model_validate(table)


def test_every_setting_is_described_with_its_default() -> None:
    rows = re.findall(
        r"^\| (`[a-z_`, ]+) \| ([^|]+) \|", PAGE.split("| setting | default |")[1].split("\n\n")[0], re.MULTILINE
    )
    described = {name: default.strip("` ") for names, default in rows for name in re.findall(r"`([a-z_]+)`", names)}
    own = {
        name: field for name, field in AzureSettings.model_fields.items() if name not in ProviderSettings.model_fields
    }
    assert set(described) == set(own)
    assert described["api_version"] == own["api_version"].default
    assert described["credential"] == own["credential"].default


def test_the_errors_are_quoted_as_they_are() -> None:
    for text in (errors.DISABLED, errors.DELETED):
        assert text.removeprefix("the key in Key Vault is ").partition(" until")[0] in PAGE
