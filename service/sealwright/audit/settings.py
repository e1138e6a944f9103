"""Settings of the audit."""

from __future__ import annotations

from pathlib import PurePosixPath

from pydantic import Field, field_validator

from sealwright.settings import FilePath, PositiveDuration, Settings


class AuditSettings(Settings):
    """Where the audit records are written.

    Attributes:
        path: A directory, on a volume that outlives the process. Each replica writes its own files.
        rotate_bytes: A file that has grown to this size is closed under a numbered name.
        rotate_after: A file of this age likewise; absent: only its size counts.
        retention: Files whose last record is older are deleted; absent: none is ever deleted.
        refusals_per_minute: How many refused calls of one caller are recorded in a minute. More are counted in one record.
    """

    path: FilePath
    rotate_bytes: int = Field(default=256 * 1024 * 1024, ge=4096)
    rotate_after: PositiveDuration | None = None
    retention: PositiveDuration | None = None
    refusals_per_minute: int = Field(default=120, ge=1, le=100_000)

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not PurePosixPath(value).is_absolute():
            raise ValueError("must be an absolute path")
        return value
