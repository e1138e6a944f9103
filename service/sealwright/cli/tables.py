"""Tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

_WIDE: Final = 500


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
