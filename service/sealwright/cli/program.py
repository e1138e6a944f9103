"""The program around the commands: UTF-8 whatever the locale, and one line when a standard stream cannot be used."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import IO, Any, Final

import click

from sealwright.cli.lazily import LazyGroup
from sealwright.cli.output import show_error

_STANDARD_OUTPUT: Final = 1
_CLOSED: Final = "it is closed; redirect it to /dev/null if you do not need it"


class OutputError(click.ClickException):
    """Standard output cannot be written. The exit status is 1, and it is shown in one line."""

    def show(self, file: IO[Any] | None = None) -> None:  # noqa: ARG002 - click's signature
        """Print one line to standard error. A reader that has read enough, such as `head`, needs no message."""
        if self.message != os.strerror(errno.EPIPE):
            show_error(f"standard output: {self.message}")


class Program(LazyGroup):
    """The group of all commands."""

    def main(self, args: Any = None, *more: Any, **options: Any) -> Any:
        """Run a command. Without `args`, this is a process of its own: prepare its streams and take its arguments."""
        if args is None:
            _use_utf8()
            _open_missing_streams()
            sys.stdout = _Output(sys.stdout.detach(), encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
            sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
            _check_arguments()
        return super().main(args, *more, **options)


class _Output(io.TextIOWrapper):
    """Standard output. A lone surrogate, which UTF-8 does not have, is written as JSON writes it."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as e:
            raise _lost(e) from e

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as e:
            raise _lost(e) from e


def _lost(error: OSError) -> OutputError:
    """Return what to raise, and send the rest to nowhere, because Python flushes the stream again at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STANDARD_OUTPUT)
    os.close(nowhere)
    return OutputError(error.strerror or type(error).__name__)


def _use_utf8() -> None:
    """Start this program again in Python's UTF-8 mode if the locale has another encoding (PEP 540).

    Python decodes arguments, environment variables and names of files before any of our code runs. Only this mode changes that.
    """
    if sys.flags.utf8_mode or not sys.executable or sys.getfilesystemencoding() == "utf-8":
        return
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - the same program


def _open_missing_streams() -> None:
    """Open /dev/null in place of closed standard streams, so that no connection gets their numbers.

    A closed standard output ends the program, because a command that prints nothing would look successful.
    """
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115 - it stays open
    output_is_closed = sys.stdout is None
    if output_is_closed:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - it stays open
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - it stays open
    if output_is_closed:
        show_error(f"standard output: {_CLOSED}")
        sys.exit(1)


def _check_arguments() -> None:
    named = [(f"argument {n}", a) for n, a in enumerate(sys.argv[1:], 1)]
    named += [(name, value) for name, value in os.environ.items() if name.startswith("SEALWRIGHT_")]
    for name, value in named:
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            show_error(f"{name}: is not UTF-8")
            sys.exit(2)
