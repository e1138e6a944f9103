"""F43: files, directories and libraries that the configuration names but this host does not have."""

from __future__ import annotations

import os
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sealwright.__main__ import main
from sealwright.config import files, parse, problems_of_host
from support.document import document
from support.processes import write_config

ROOT = Path(__file__).parents[3]


@pytest.fixture
def right(tmp_path: Path) -> dict[str, Any]:
    """Return a configuration whose files exist. The directory of the audit does not, because the service creates it."""
    found = document(tmp_path, "http://127.0.0.1:1")
    for name in ("certificate", "private_key", "client_ca", "module", "pin"):
        (tmp_path / name).write_text("")
    names = ("certificate", "private_key", "client_ca")
    found["server"] |= {"insecure_local": False, "tls": {n: str(tmp_path / n) for n in names}}
    hsm = {"kind": "pkcs11", "module": str(tmp_path / "module"), "token_label": "t", "pin_file": str(tmp_path / "pin")}
    found["providers"]["hsm"] = hsm
    found["audit"]["path"] = str(tmp_path / "new" / "audit")
    return found


def found(configuration: dict[str, Any]) -> list[str]:
    return list(problems_of_host(parse(configuration)))


def test_f43_what_is_there_is_right_and_nothing_changes(right: dict[str, Any], tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    assert found(right) == []
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("certificate", "server.tls.certificate"),
        ("private_key", "server.tls.private_key"),
        ("client_ca", "server.tls.client_ca"),
        ("module", "providers.hsm.module"),
        ("pin", "providers.hsm.pin_file"),
    ],
)
def test_f43_an_absent_file_is_a_problem(right: dict[str, Any], tmp_path: Path, name: str, place: str) -> None:
    (tmp_path / name).unlink()
    assert found(right) == [f"{place}: {tmp_path}/{name}: No such file or directory"]
    (tmp_path / name).mkdir()
    assert found(right) == [f"{place}: {tmp_path}/{name}: Is a directory"]


def test_f43_files_of_the_other_providers_are_looked_at_too(right: dict[str, Any], tmp_path: Path) -> None:
    right["providers"]["g"] = {
        "kind": "gcp",
        "project": "p",
        "location": "global",
        "key_ring": "k",
        "credentials_file": f"{tmp_path}/none.json",
    }
    assert f"providers.g.credentials_file: {tmp_path}/none.json: No such file or directory" in found(right)


def test_f43_directories_that_cannot_be_used_are_problems(
    right: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right["store"]["url"] = f"sqlite:///{tmp_path}/none/state.db"
    right["audit"]["path"] = f"{tmp_path}/pin/audit"
    right["server"]["grpc"] = f"unix:{tmp_path}/socket/grpc"
    assert found(right) == [
        f"server.grpc: {tmp_path}/socket: No such file or directory",
        f"store.url: {tmp_path}/none: No such file or directory",
        f"audit.path: {tmp_path}/pin: Not a directory",
    ]
    right["store"]["url"] = f"sqlite:///{tmp_path}/state.db"
    right["audit"]["path"] = f"{tmp_path}/a/b"
    right["server"]["grpc"] = "127.0.0.1:0"
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everything
    assert found(right) == [
        f"store.url: {tmp_path}: this user may not create files there",
        f"audit.path: {tmp_path}: this user may not create files there",
    ]
    (tmp_path / "state.db").write_text("")
    assert found(right)[0] == f"store.url: {tmp_path}/state.db: this user may not write it"


@pytest.mark.parametrize("kind", files.LIBRARIES)
def test_f43_a_missing_library_names_its_extra(
    right: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def only_others(name: str) -> object:
        return None if name in files.LIBRARIES[kind] else find_spec(name)

    right["providers"]["a"] = {"kind": "azure", "vault_url": "https://v.vault.azure.net", "credential": "cli"}
    right["providers"]["g"] = {"kind": "gcp", "project": "p", "location": "global", "key_ring": "k"}
    assert found(right) == []
    monkeypatch.setattr(files, "find_spec", only_others)
    problems = found(right)  # Kinds may share a library.
    name = {"aws": "aws", "azure": "a", "gcp": "g", "pkcs11": "hsm"}[kind]
    expected = f"is not installed; run: pip install 'sealwright[{kind}]'"
    assert f"providers.{name}.kind: {', '.join(files.LIBRARIES[kind])} {expected}" in problems
    assert tmp_path.exists()


def test_f43_each_extra_has_its_libraries() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    del extras["postgres"]  # of the store
    assert {kind: len(modules) for kind, modules in files.LIBRARIES.items()} == {k: len(v) for k, v in extras.items()}


def test_f43_config_check_looks_at_the_host_unless_offline(right: dict[str, Any], tmp_path: Path) -> None:
    path = write_config(tmp_path, right)
    assert CliRunner().invoke(main, ["config", "check", path]).exit_code == 0
    (tmp_path / "certificate").unlink()
    done = CliRunner().invoke(main, ["config", "check", path])
    expected = f"error: server.tls.certificate: {tmp_path}/certificate: No such file or directory\n"
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", expected)
    assert CliRunner().invoke(main, ["config", "check", "--offline", path]).exit_code == 0
