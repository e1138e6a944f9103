"""The configuration: one TOML file, checked as a whole, that composes the settings of all packages."""

from __future__ import annotations

from pathlib import Path

from sealwright.config.advice import warnings
from sealwright.config.against_store import problems_with_store
from sealwright.config.files import problems_of_host
from sealwright.config.model import Config, parse
from sealwright.config.reading import read

__all__ = ["Config", "load", "parse", "problems_of_host", "problems_with_store", "read", "warnings"]


def load(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigurationError: The file cannot be read, or the configuration is invalid. The error has every problem.
    """
    return parse(read(path))
