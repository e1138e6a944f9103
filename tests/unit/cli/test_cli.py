"""The command line: exit statuses, what is printed where, and never a traceback."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sealwright import __version__
from sealwright.__main__ import main
from support.commands import leaves
from support.document import document
from support.processes import BIN, write_config


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def good(tmp_path: Path) -> str:
    return write_config(tmp_path, document(tmp_path, "http://127.0.0.1:1"))


@pytest.fixture
def bad(tmp_path: Path) -> str:
    wrong = document(tmp_path, "http://127.0.0.1:1")
    wrong["server"]["grcp"] = "127.0.0.1:1"
    wrong["issuers"][0]["url"] = "http://id.example.com"
    return write_config(tmp_path, wrong)


PROBLEMS = [
    "server.grcp: unknown key",
    "issuers[0].url: must be an absolute https URL without user information",
]


ALL = {words[:count] for words, _ in leaves(main) for count in range(len(words) + 1)}
"""The words of each command and of each group."""


@pytest.mark.parametrize("path", sorted(ALL), ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    for option in ("--help", "-h"):
        result = run(*path, option)
        assert result.exit_code == 0
        assert result.stdout.startswith("Usage: ")
        assert len(result.stdout.splitlines()) > 4
        assert "\\b" not in result.stdout, "F48: a control character of click"


def test_the_version_is_the_packages() -> None:
    assert run("--version").stdout == f"sealwright, version {__version__}\n"


def test_a_right_configuration_ends_with_0(good: str) -> None:
    result = run("config", "check", good)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{good}: the configuration is valid\n"


def test_a_wrong_configuration_ends_with_1_and_every_problem(bad: str) -> None:
    result = run("config", "check", bad)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [f"error: {p}" for p in PROBLEMS]


def test_programs_get_the_problems_as_json_on_standard_output(bad: str) -> None:
    result = run("config", "check", bad, "--output", "json")
    assert (result.exit_code, result.stderr) == (1, "")
    assert json.loads(result.stdout) == {"problems": PROBLEMS}


def test_programs_get_warnings_as_json(tmp_path: Path) -> None:
    config = write_config(tmp_path, document(tmp_path, "http://127.0.0.1:1", grants=[]))
    result = run("config", "check", config, "--output", "json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "problems": [],
        "warnings": ["grants: there are none, so no caller may do anything"],
    }
    assert run("config", "check", config).stdout.splitlines()[0].startswith("warning: grants: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["config", "check"],
        ["config", "check", "a", "b"],
        ["config", "check", "a", "--output", "xml"],
        ["config", "chek"],
        ["serve"],
        ["serve", "--config", "a", "--log-level", "loud"],
        ["db", "upgrade"],
        ["nothing"],
        ["--nothing"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_ends_with_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: " in result.stderr


@pytest.mark.parametrize(
    "command", [["config", "check"], ["serve", "--config"], ["db", "upgrade", "--config"]], ids=" ".join
)
def test_a_missing_file_ends_with_1_and_one_line(tmp_path: Path, command: list[str]) -> None:
    path = tmp_path / "none.toml"
    result = run(*command, str(path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"error: {path}: No such file or directory\n"


def test_the_store_is_brought_up_to_date_and_again(tmp_path: Path, good: str) -> None:
    found = run("db", "upgrade", "--config", good, "--output", "json")
    assert found.exit_code == 0
    revision = json.loads(found.stdout)["revision"]
    assert revision >= "0001"
    assert run("db", "upgrade", "--config", good).stdout == f"the store is at revision {revision}\n"
    assert (tmp_path / "state.db").exists()


def test_a_store_of_a_newer_version_is_reported(tmp_path: Path, good: str) -> None:
    run("db", "upgrade", "--config", good)
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
        connection.execute("UPDATE deployment SET oldest_schema = '0999'")
    connection.close()
    for command in (["db", "upgrade"], ["serve"]):
        result = run(*command, "--config", good)
        assert result.exit_code == 1
        assert "error: store.url: the database is at revision 0999" in result.stderr
        assert "Traceback" not in result.output


@pytest.mark.parametrize("content", ["a directory", "no database"])
def test_a_store_that_cannot_be_used_is_reported(tmp_path: Path, good: str, content: str) -> None:
    store = tmp_path / "state.db"
    if content == "a directory":
        store.mkdir()
    else:
        store.write_text("this was never a database" * 100)
    reason = "unable to open database file" if content == "a directory" else "file is not a database"
    result = run("db", "upgrade", "--config", good)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"error: store.url: the store cannot be brought up to date: {reason}\n"


def serve(config: str, *more: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "sealwright"), "serve", "--config", config, *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - our own program


def test_serve_with_a_wrong_configuration_ends_with_1_and_prints_only_the_problems(bad: str) -> None:
    done = serve(bad)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [f"error: {p}" for p in PROBLEMS]


def spoil(tmp_path: Path, what: str) -> dict[str, Any]:
    config = document(tmp_path, "http://127.0.0.1:1")
    if what == "store":
        config["store"]["url"] = f"sqlite:///{tmp_path}/no/such/directory/state.db"
    elif what == "audit":
        (tmp_path / "audit").write_text("no directory")
    else:
        missing = dict.fromkeys(("certificate", "private_key", "client_ca"), f"{tmp_path}/none.pem")
        config["server"] |= {"insecure_local": False, "tls": missing}
    return config


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("store", "error: store.url: the store cannot be used: unable to open database file"),
        ("audit", "error: audit.path: no file can be created there: File exists"),
        ("tls", "error: server.tls.certificate: "),
    ],
)
def test_serve_that_cannot_begin_ends_with_1_and_says_why_without_a_traceback(
    tmp_path: Path, what: str, expected: str
) -> None:
    done = serve(write_config(tmp_path, spoil(tmp_path, what)), "--log-level", "error")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(expected)
    assert len(done.stderr.splitlines()) == 1


def loaded(*arguments: str) -> set[str]:
    """Return the packages that a command has loaded in the end."""
    code = (
        "import sys; from sealwright.__main__ import main\n"
        f"main({list(arguments)!r}, standalone_mode=False)\n"
        "print(' '.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - our own
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_checking_a_configuration_loads_no_sdk_of_a_kms(good: str) -> None:
    found = loaded("config", "check", good)
    assert not {"boto3", "botocore", "pkcs11", "azure", "grpc", "alembic"} & found
    assert "pydantic" in found


@pytest.mark.parametrize("arguments", [("jwks", "--help"), ("keys", "list", "--help")], ids=" ".join)
def test_a_command_that_only_calls_the_service_loads_no_store_and_no_settings(arguments: tuple[str, ...]) -> None:
    found = loaded(*arguments)
    assert "grpc" in found
    assert not {"sqlalchemy", "alembic", "pydantic", "uvloop", "aiohttp"} & found
