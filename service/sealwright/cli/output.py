"""Output of commands: text for people, or JSON for programs with `--output json`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def output_option(function: F) -> F:
    """Add `--output text|json` to a command."""
    option = click.option(
        "--output",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="Format of the output: for people or for programs.",
    )
    return option(function)


def show(output: str, text: str, value: Any) -> None:
    """Print a result: the text, or the value as one line of JSON."""
    click.echo(json.dumps(value, ensure_ascii=False) if output == "json" else text)


def show_error(message: str) -> None:
    """Print one line to standard error. Its failure has no effect, because the exit status tells the rest."""
    with contextlib.suppress(OSError):
        click.echo(f"error: {message}", err=True)


def fail(output: str, problems: Sequence[str], about: Mapping[str, Any] = MappingProxyType({})) -> NoReturn:
    """Print problems and end with status 1. Text goes to standard error, JSON to standard output.

    Args:
        output: `text` or `json`.
        problems: Texts for people.
        about: Further members of the JSON, for programs.
    """
    if output == "json":
        click.echo(json.dumps({"problems": list(problems), **about}, ensure_ascii=False))
    else:
        for problem in problems:
            show_error(problem)
    raise SystemExit(1)
