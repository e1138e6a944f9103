"""The surface for plug-ins: mypy accepts a provider that imports only `sealwright.provider`, and refuses a wrong one."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sealwright.provider
from contract import plugin
from sealwright.provider import ProviderSettings
from sealwright_providers import aws, pkcs11

PLUGIN = Path(__file__).with_name("plugin.py")
ROOT = Path(__file__).parents[2]


def mypy(path: Path) -> str:
    """Return the errors in a folder."""
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        f"--config-file={ROOT / 'pyproject.toml'}",
    ]
    done = subprocess.run([*command, path], cwd=path.parent, capture_output=True, text=True, check=False)  # noqa: S603
    assert not done.stderr, done.stderr
    return done.stdout


def test_a_plug_in_needs_one_import_of_sealwright() -> None:
    tree = ast.parse(PLUGIN.read_text(encoding="utf-8"))
    modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    assert {m for m in modules if m.startswith("sealwright")} == {"sealwright.provider"}


WRONG = {
    "sign returns bytes": ("timeout: float) -> RawSignature:", "timeout: float) -> bytes:", "RawSignature"),
    "open takes other settings": ("settings: VaultSettings)", "settings: int)", "ProviderFactory"),
    "there is no kind": ('    kind = "vault"\n', "", "kind"),
    "the settings have another base": ("VaultSettings(ProviderSettings)", "VaultSettings", "ProviderSettings"),
    "disable takes no timeout": ("disable(self, uri: str, *, timeout: float)", "disable(self, uri: str)", "disable"),
}
"""What is wrong: the text that is replaced, its replacement, and a word in mypy's message."""


@pytest.mark.timeout(300)
def test_a_plug_in_passes_mypy_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    right = PLUGIN.read_text(encoding="utf-8")
    (tmp_path / "right.py").write_text(right, encoding="utf-8")
    for number, (old, new, _) in enumerate(WRONG.values()):
        assert right.count(old) == 1, old
        (tmp_path / f"wrong_{number}.py").write_text(right.replace(old, new), encoding="utf-8")
    errors = mypy(tmp_path)
    assert "right.py" not in errors
    for number, (what, (_, _, word)) in enumerate(WRONG.items()):
        assert any(f"wrong_{number}.py" in line and word in line for line in errors.splitlines()), (what, errors)


def test_every_name_of_the_surface_exists_once() -> None:
    names = sealwright.provider.__all__
    assert len(names) == len(set(names))
    assert all(hasattr(sealwright.provider, name) for name in names)


def test_factories_say_what_they_are() -> None:
    for factory, kind in ((aws.FACTORY, "aws"), (pkcs11.FACTORY, "pkcs11"), (plugin.FACTORY, "vault")):
        assert factory.kind == kind
        assert issubclass(factory.settings, ProviderSettings)
