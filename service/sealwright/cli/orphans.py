"""`sealwright keys orphans` and `sealwright keys unblock`, which work without a service that runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from sealwright import app
from sealwright.cli.arguments import config_option
from sealwright.cli.output import output_option, show
from sealwright.cli.serve import failures
from sealwright.config import load


@click.command()
@click.argument("provider")
@config_option
@output_option
def unblock(provider: str, path: Path, output: str) -> None:
    """Permit PROVIDER to create keys again, after `keys revoke --provider` has revoked all of its keys.

    Do this when nobody else has the provider's credentials any more. The service may be running, and creates keys within seconds.
    """
    with failures(output):
        config = load(path)
        if provider not in config.providers:
            raise click.UsageError(f"the configuration has no provider {provider}")
        was_blocked = asyncio.run(app.unblock(config, provider))
    text = "creates keys again" if was_blocked else "was not blocked"
    show(output, f"provider {provider} {text}", {"provider": provider, "was_blocked": was_blocked})


@click.command()
@config_option
@output_option
def orphans(path: Path, output: str) -> None:
    """List the keys in the KMSs that have this deployment's tags, and that its store does not know.

    Nothing is changed. The service need not run, but the command needs its configuration, its store and its credentials. Before
    you delete a key, make sure that nobody uses it: the service has never published it. Exit status: 0 if there are none and
    every provider could be searched, else 1.
    """
    with failures(output):
        config = load(path)
        found = asyncio.run(app.orphans(config))
    lines = [f"{name}: {uri}" for name, uris in found.uris.items() for uri in uris]
    lines += [f"{name}: could not be searched: {reason}" for name, reason in found.failed.items()]
    lines += [f"the service searches for the key of intent {intent}" for intent in found.searched_for]
    document = {"orphans": found.uris, "failed": found.failed, "searched_for": found.searched_for}
    show(output, "\n".join(lines) or "there are no orphans", document)
    if any(found.uris.values()) or found.failed:
        raise SystemExit(1)
