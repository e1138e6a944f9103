"""The command `sealwright`."""

from __future__ import annotations

from typing import Final

import click

from sealwright import __version__
from sealwright.cli.program import Program

_MODULES: Final = {
    "completion": "completion",
    "config": "config",
    "db": "db",
    "dev": "dev",
    "doctor": "doctor",
    "jwks": "tokens",
    "keys": "keys",
    "replicas": "replicas",
    "serve": "serve",
    "sign": "tokens",
    "store": "store",
    "verify": "tokens",
    "worker": "serve",
}
"""Modules of `sealwright.cli` by command."""


@click.group(
    cls=Program,
    modules={name: f"sealwright.cli.{module}" for name, module in _MODULES.items()},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="sealwright")
def main() -> None:
    """Sign JSON Web Tokens with keys that never leave a KMS or an HSM.

    Exit status: 0: success; 1: the service or a check refused; 2: the command line is wrong.
    """


if __name__ == "__main__":
    main()
