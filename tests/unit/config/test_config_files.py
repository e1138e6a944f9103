"""Files: one clear line for each that cannot be read."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sealwright.config import load
from sealwright.errors import ConfigurationError

from .samples import SAMPLE


def problem_of(path: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert "\n" not in problem
    return problem


def test_a_file_is_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "sealwright.toml"
    path.write_text(SAMPLE)
    assert load(path).issuers[0].name == "payments"


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    assert problem_of(path) == f"{path}: No such file or directory"


def test_a_directory_is_one_line(tmp_path: Path) -> None:
    assert problem_of(tmp_path) == f"{tmp_path}: Is a directory"


def test_a_file_that_may_not_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "read_text", refuse)  # root may read everything
    assert problem_of(tmp_path / "secret.toml") == f"{tmp_path}/secret.toml: Permission denied"


def test_an_error_of_syntax_is_one_line_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('[server]\ngrpc = "127.0.0.1:1\n')
    problem = problem_of(path)
    assert problem.startswith(f"{path}: not TOML: ")
    assert "line 2" in problem


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"a = '\xff'", id="not UTF-8"),
        pytest.param(b"a = " + b"1" * 5000, id="a number without end"),
        pytest.param(b"a = " + b"[" * 100_000, id="brackets without end"),
        pytest.param(b"a = 1\na = 2", id="a key twice"),
        pytest.param(b'a = "\x00"', id="a control character"),
        pytest.param(b"\x89PNG\r\n", id="not text"),
    ],
)
def test_a_file_that_is_not_toml_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    assert problem_of(path).startswith(f"{path}: ")


@pytest.mark.parametrize("content", ["1" * 5000, "[" * 100_000])
def test_a_value_that_python_cannot_hold_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(f"a = {content}")
    assert problem_of(path) == f"{path}: a number is too long, or lists are nested too deeply"
