"""`sealwright completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script for SHELL that completes the commands and options of sealwright.

    \b
    For bash, in every new shell:
      sealwright completion bash > ~/.local/share/bash-completion/completions/sealwright
    """  # noqa: D301 - click reads the control character
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError("this shell is not supported")
    root = context.find_root().command
    click.echo(kind(root, {}, "sealwright", "_SEALWRIGHT_COMPLETE").source())
