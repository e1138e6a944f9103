"""Output of commands: text for people, or JSON for programs with `--output json`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NoReturn, TypeVar

import click
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

_WIDE: Final = 500

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


def show_table(titles: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
    """Print a table. On a terminal that is too narrow for it, print a block of lines for each row: nothing is ever cut.

    If standard output is not a terminal, the table has its full width and no colours.
    """
    table = Table(*(Column(title, no_wrap=True) for title in titles), box=None)
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console.width = _WIDE
    if console.measure(table, options=console.options.update_width(_WIDE)).maximum <= console.width:
        console.print(table)
        return
    for n, row in enumerate(rows):
        if n:
            console.print()
        for title, cell in zip(titles, row, strict=True):
            if cell.plain:
                console.print(Text.assemble((f"{title}: ", "bold"), cell), soft_wrap=True)


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
