"""What commands read: files and standard input, as bytes or as UTF-8, whatever the locale."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO, Any, Final

import click

from sealwright.cli.output import show_error

MAX_BYTES: Final = 4 * 1024 * 1024
"""gRPC's limit for a message. No input of a command is larger, and a device such as /dev/zero ends here."""


class InputError(click.ClickException):
    """A file, standard input or an argument cannot be used. It is shown in one line, without the usage of the command."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:  # noqa: ARG002 - click's signature
        """Print one line to standard error."""
        show_error(self.message)


def read_bytes(path: Path, name: str) -> bytes:
    """Return the content of a file.

    Args:
        path: The file.
        name: The option that names it, for the error.

    Raises:
        InputError: The file cannot be read or is too large.
    """
    try:
        with path.open("rb") as file:
            return _limited(file, f"{name}: {path}")
    except OSError as e:
        raise InputError(f"{name}: {path}: {e.strerror}") from e


def read_text(path: Path, name: str) -> str:
    """Return the content of a file in UTF-8.

    Raises:
        InputError: The file cannot be read, is too large or is not UTF-8.
    """
    return _decoded(read_bytes(path, name), f"{name}: {path}")


def read_standard_input(name: str) -> str:
    """Return standard input in UTF-8.

    Args:
        name: The option or argument that was `-`, for the error.

    Raises:
        InputError: Standard input cannot be read, is too large or is not UTF-8.
    """
    place = f"{name}: standard input"
    if getattr(sys.stdin, "name", None) == os.devnull:  # see program.py; a redirection from /dev/null has another name
        raise InputError(f"{place}: it is closed")
    try:
        return _decoded(_limited(sys.stdin.buffer, place), place)
    except OSError as e:
        raise InputError(f"{place}: {e.strerror}") from e


def _limited(file: IO[bytes], place: str) -> bytes:
    content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError(f"{place}: has more than {MAX_BYTES} bytes")
    return content


def _decoded(content: bytes, place: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as e:
        raise InputError(f"{place}: byte {e.start} is not UTF-8") from e
