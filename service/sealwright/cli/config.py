"""`sealwright config`."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import click

from sealwright.cli.output import fail, output_option, show
from sealwright.config import Config, load, problems_of_host, problems_with_store, warnings
from sealwright.errors import ConfigurationError
from sealwright.keys.ports import StoreUnavailableError


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
    names, and at the keys in the store, as the user who runs the command. On another host than the service's, use --offline. Exit
    status: 0 if the configuration is valid, else 1.
    """
    try:
        loaded = load(file)
    except ConfigurationError as e:
        fail(output, e.problems)
    if not offline and (missing := [*problems_of_host(loaded), *_problems_of_keys(loaded)]):
        fail(output, missing)
    found = list(warnings(loaded))
    text = "\n".join([*(f"warning: {w}" for w in found), f"{file}: the configuration is valid"])
    show(output, text, {"problems": [], "warnings": found})


def _problems_of_keys(config: Config) -> list[str]:
    """Return why keys in the store cannot be used. A store that is missing, out of date or unreadable has nothing to say here."""
    # Imported here, because it takes long.
    from sealwright.sql.store import SqlStore  # noqa: PLC0415

    async def run() -> list[str]:
        opened = await SqlStore.open(config.store, upgrade=False)
        async with contextlib.aclosing(opened):
            return list(problems_with_store(config, await opened.read()))

    with contextlib.suppress(ConfigurationError, StoreUnavailableError):
        return asyncio.run(run())
    return []
