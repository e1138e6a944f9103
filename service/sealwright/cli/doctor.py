"""`sealwright doctor`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from sealwright.cli.arguments import config_option
from sealwright.cli.findings import Finding, Level, ok, problem, warning
from sealwright.cli.output import output_option, show
from sealwright.config import Config, load, problems_of_host, warnings
from sealwright.errors import ConfigurationError


@click.command()
@config_option
@click.option("--offline", is_flag=True, help="Do not connect to the providers.")
@output_option
def doctor(path: Path, offline: bool, output: str) -> None:
    """Examine everything that can be known before an incident.

    Reads the files that the configuration names, and looks at their rights, at certificates that expire, at the room on the disks,
    at the listeners, and at the store against its witness and the configuration. Asks each provider whose credentials it has, and
    lets every key that signs, or will, sign a fixed text that is not a token. Changes nothing. Run it as the service's user, also
    while the service runs. Exit status: 0, or 1 if there is a problem; warnings do not change it.
    """
    try:
        config = load(path)
    except ConfigurationError as e:
        _report(output, [problem("configuration", text) for text in e.problems])
    else:
        _report(output, asyncio.run(_examine(config, offline=offline)))


async def _examine(config: Config, *, offline: bool) -> list[Finding]:
    # Imported here, because it loads gRPC and the database.
    from sealwright.cli import examining_host as host  # noqa: PLC0415
    from sealwright.cli.examining_providers import providers  # noqa: PLC0415

    findings = list(_about_configuration(config))
    for examine in (host.rights_of_files, host.certificates, host.disks, host.listeners):
        findings += await asyncio.to_thread(list, examine(config))
    async with host.opened_store(config) as state:
        findings += host.store(config, state)
        if not offline:
            findings += await providers(config, None if isinstance(state, str) else state)
    return findings


def _about_configuration(config: Config) -> Iterator[Finding]:
    problems = list(problems_of_host(config))
    yield from (problem("configuration", text) for text in problems)
    yield from (warning("configuration", text) for text in warnings(config))
    if not problems:
        yield ok("configuration", "valid")


def _report(output: str, findings: Sequence[Finding]) -> None:
    bad = [f for f in findings if f.level is Level.PROBLEM]
    lines = [f"{f.level.value.upper():8} {f.part}: {f.text}" for f in findings]
    warned = sum(f.level is Level.WARNING for f in findings)
    lines.append(f"{len(bad)} problems, {warned} warnings")
    value = {
        "problems": len(bad),
        "warnings": warned,
        "findings": [{"part": f.part, "level": f.level.value, "text": f.text} for f in findings],
    }
    show(output, "\n".join(lines), value)
    if bad:
        raise SystemExit(1)
