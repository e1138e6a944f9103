"""`sealwright config`."""

from __future__ import annotations

from pathlib import Path

import click

from sealwright.cli.output import fail, output_option, show
from sealwright.config import load, warnings
from sealwright.errors import ConfigurationError


@click.group()
def config() -> None:
    """Check configuration files."""


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
@output_option
def check(file: Path, output: str) -> None:
    """Check FILE whole, without connecting to anything.

    Every problem is reported at once, each with its path. Exit status: 0, or 1 with the problems.
    """
    try:
        found = list(warnings(load(file)))
    except ConfigurationError as e:
        fail(output, e.problems)
    text = "\n".join([*(f"warning: {w}" for w in found), f"{file}: the configuration is right"])
    show(output, text, {"problems": [], "warnings": found})
