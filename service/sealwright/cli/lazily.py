"""Groups whose commands are imported when somebody asks for them, because few commands need all that the others import."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

import click


class LazyGroup(click.Group):
    """A group that knows where its commands are."""

    def __init__(self, *arguments: Any, modules: Mapping[str, str] = MappingProxyType({}), **options: Any) -> None:
        """See `click.Group`.

        Args:
            arguments: Those of `click.Group`.
            modules: Modules by the names of their commands. A command is the function of its name.
            options: Those of `click.Group`.
        """
        super().__init__(*arguments, **options)
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*super().list_commands(ctx), *self._modules})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; None: there is none of this name."""
        if cmd_name not in self.commands and cmd_name in self._modules:
            self.add_command(getattr(import_module(self._modules[cmd_name]), cmd_name))
        return super().get_command(ctx, cmd_name)
