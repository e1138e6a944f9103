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
    """Check all of the configuration FILE, without connecting to anything.

    Reports every problem at once, each with its path. Exit status: 0 if the configuration is valid, else 1.
    """
    try:
        found = list(warnings(load(file)))
    except ConfigurationError as e:
        fail(output, e.problems)
    text = "\n".join([*(f"warning: {w}" for w in found), f"{file}: the configuration is valid"])
    show(output, text, {"problems": [], "warnings": found})
