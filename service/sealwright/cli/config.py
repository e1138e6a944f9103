"""`sealwright config`."""

from __future__ import annotations

from pathlib import Path

import click

from sealwright.cli.output import fail, output_option, show
from sealwright.config import load, problems_of_host, warnings
from sealwright.errors import ConfigurationError


@click.group()
def config() -> None:
    """Check configuration files."""


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--offline",
    is_flag=True,
    help="Check the text only: do not look for the files, directories and libraries that it names.",
)
@output_option
def check(file: Path, offline: bool, output: str) -> None:
    """Check all of the configuration FILE, without connecting to anything.

    Reports every problem at once, each with its path. Then looks at the files, directories and libraries that the configuration
    names, as the user who runs the command. On another host than the service's, use --offline. Exit status: 0 if the
    configuration is valid, else 1.
    """
    try:
        loaded = load(file)
    except ConfigurationError as e:
        fail(output, e.problems)
    if not offline and (missing := list(problems_of_host(loaded))):
        fail(output, missing)
    found = list(warnings(loaded))
    text = "\n".join([*(f"warning: {w}" for w in found), f"{file}: the configuration is valid"])
    show(output, text, {"problems": [], "warnings": found})
