"""`sealwright serve`, and the hidden `sealwright worker`, which it starts if the configuration has several workers."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from sealwright.cli.arguments import config_option
from sealwright.cli.output import fail, output_option
from sealwright.config import Config, parse, read, warnings
from sealwright.errors import ConfigurationError
from sealwright.keys.ports import StoreUnavailableError
from sealwright.logs import FORMATS, Format, log_to_stderr

log = logging.getLogger("sealwright")

_log_format = click.option(
    "--log-format", type=click.Choice(FORMATS), default="text", show_default=True, help="Form of the lines of the log."
)


@click.command()
@config_option
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Least severe level of the service's own log, on standard error.",
)
@_log_format
@output_option
def serve(path: Path, log_level: str, log_format: Format, output: str) -> None:
    """Serve until SIGTERM or SIGINT, then wait for running calls to end.

    When every issuer can sign, or is blocked by something that waiting will not fix soon, the command prints one line of JSON
    with the addresses of the listeners: {"grpc": "127.0.0.1:8443", "http": "127.0.0.1:8080", "admin": "127.0.0.1:9090"}. Logs
    go to standard error.
    """
    log_to_stderr(log_level, log_format)
    with failures(output):
        document = read(path)
        config = parse(document)
        for warning in warnings(config):
            log.warning("%s", warning)
        if config.server.workers == 1:
            _run_worker(config)
        else:
            _supervise(document, config, log_level, log_format)


@click.command(hidden=True)
@click.option("--log-level", default="info")
@_log_format
@click.option("--config-fd", type=int, required=True)
@click.option("--lifeline-fd", type=int, required=True)
@click.option("--forget", default=None)
def worker(log_level: str, log_format: Format, config_fd: int, lifeline_fd: int, forget: str | None) -> None:
    """Run one of several workers. The supervisor passes the configuration, as JSON, in an open file."""
    log_to_stderr(log_level, log_format)
    with failures("text"):
        with open(config_fd, encoding="utf-8") as file:
            document = json.load(file)
        _run_worker(parse(document), share_ports=True, lifeline=lifeline_fd, forget=forget)


def _run_worker(
    config: Config, *, share_ports: bool = False, lifeline: int | None = None, forget: str | None = None
) -> None:
    # Imported here, so that `--help` and `config check` do not load gRPC.
    from sealwright.app import build  # noqa: PLC0415
    from sealwright.server.worker import run_worker  # noqa: PLC0415

    run_worker(lambda: build(config, share_ports=share_ports, forget=forget), _announce, lifeline)


def _supervise(document: dict[str, Any], config: Config, log_level: str, log_format: Format) -> None:
    from sealwright.server.supervisor import Supervisor, reserved_ports  # noqa: PLC0415

    command = (sys.executable, "-m", "sealwright", "worker", "--log-level", log_level, "--log-format", log_format)
    with reserved_ports(config.server) as addresses:
        workers_document = {**document, "server": {**document["server"], **addresses}}
        Supervisor(
            command, json.dumps(workers_document).encode(), config.server, _announce, config.metrics_directory
        ).run()


def _announce(addresses: Mapping[str, str]) -> None:
    click.echo(json.dumps(dict(addresses)))


@contextlib.contextmanager
def failures(output: str) -> Iterator[None]:
    """End the command with status 1 and the problems if the configuration or the store cannot be used."""
    try:
        yield
    except ConfigurationError as e:
        fail(output, e.problems)
    except StoreUnavailableError as e:
        log.debug("the store cannot be used", exc_info=e)
        fail(output, [f"store.url: {e}"])
