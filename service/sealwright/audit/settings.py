"""Settings of the audit."""

from __future__ import annotations

from pathlib import PurePosixPath

from pydantic import field_validator

from sealwright.settings import FilePath, Settings


class AuditSettings(Settings):
    """Where the audit records are written.

    Attributes:
        path: A directory, on a volume that outlives the process. Each replica writes its own files.
    """

    path: FilePath

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not PurePosixPath(value).is_absolute():
            raise ValueError("must be an absolute path")
        return value
