"""Reads a configuration file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from sealwright.errors import ConfigurationError


def read(path: Path) -> dict[str, Any]:
    """Read a configuration file without checking its content.

    Raises:
        ConfigurationError: The file cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigurationError([f"{path}: {e.strerror}"]) from e
    except UnicodeDecodeError as e:
        raise ConfigurationError([f"{path}: not TOML: byte {e.start} is not UTF-8"]) from e
    except tomllib.TOMLDecodeError as e:
        raise ConfigurationError([f"{path}: not TOML: {e}"]) from e
    except (ValueError, RecursionError) as e:  # thousands of digits, thousands of brackets
        raise ConfigurationError([f"{path}: a number is too long, or lists are nested too deeply"]) from e
