"""Arguments and options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from sealwright.times import parse_duration

F = TypeVar("F", bound=Callable[..., Any])

_ISSUERS: Final = "issuers/"
_KID: Final = re.compile(r"-[A-Za-z0-9_-]{42}")
"""A kid that begins with a hyphen: base64url of 32 bytes."""


class KidCommand(click.Command):
    """A command with a kid as its argument. One kid in 64 begins with a hyphen, but is not an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put kids that look like options behind `--`."""
        valued = {o for p in self.params if isinstance(p, click.Option) and not p.is_flag for o in p.opts}
        before = ["", *args[:-1]]
        kids = [a for a, last in zip(args, before, strict=True) if _KID.fullmatch(a) and last not in valued]
        if kids and "--" not in args:
            kept = [a for a, last in zip(args, before, strict=True) if not (_KID.fullmatch(a) and last not in valued)]
            args = [*kept, "--", *kids]
        return super().parse_args(ctx, args)


class DurationType(click.ParamType[timedelta]):
    """A duration, written as in the configuration."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Turn "10m" into a timedelta."""
        try:
            return parse_duration(value)  # type: ignore[no-any-return]
        except ValueError as e:
            self.fail(str(e), param, ctx)


class IssuerType(click.ParamType[str]):
    """An issuer, by its name or its resource name."""

    name = "issuer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002 - click's
        """Turn "payments" into the resource name "issuers/payments"."""
        return _ISSUERS + str(value).removeprefix(_ISSUERS)


def issuer_argument(function: F) -> F:
    """Add the argument ISSUER to a command. The command receives the resource name, as `issuer`."""
    return click.argument("issuer", type=IssuerType(), metavar="ISSUER")(function)


def config_option(function: F) -> F:
    """Add the required option `--config` to a command. The command receives it as `path`."""
    option = click.option(
        "--config", "path", type=click.Path(path_type=Path), required=True, help="The configuration file."
    )
    return option(function)
