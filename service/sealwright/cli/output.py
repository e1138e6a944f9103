"""What commands print: for people, or with `--output json` for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, TypeVar

import click
from rich.console import Console
from rich.table import Table

_WIDE: Final = 500

F = TypeVar("F", bound=Callable[..., Any])


def output_option(function: F) -> F:
    """Add `--output text|json` to a command."""
    option = click.option(
        "--output",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="Print for people or for programs.",
    )
    return option(function)


def show(output: str, text: str, value: Any) -> None:
    """Print a result: the text, or the value as one line of JSON."""
    click.echo(json.dumps(value, ensure_ascii=False) if output == "json" else text)


def show_table(table: Table) -> None:
    """Print a table: as wide as it needs to be, and without colours, where it goes to no terminal."""
    table.box = None
    console = Console()
    if not console.is_terminal:
        console.width = _WIDE
    console.print(table)


def fail(output: str, problems: Sequence[str]) -> NoReturn:
    """Print problems, on standard error for people and on standard output for programs, and end with status 1."""
    if output == "json":
        click.echo(json.dumps({"problems": list(problems)}, ensure_ascii=False))
    else:
        for problem in problems:
            click.echo(f"error: {problem}", err=True)
    raise SystemExit(1)
