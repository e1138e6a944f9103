"""Rules between tables of the configuration.

They are checked in the raw document, so that other problems do not hide theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def problems_across(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the problems between tables of a document."""
    taken_names = _Taken("already has this name")
    taken_paths = _Taken("already has this path; each issuer needs its own, because its JWK Set is served there")
    tables = document.get("providers", {})
    for i, issuer in enumerate(list_or_empty(document.get("issuers"))):
        if not isinstance(issuer, Mapping):
            continue
        yield from taken_names.by(issuer.get("name"), f"issuers[{i}]", "name")
        yield from taken_paths.by(_url_path(issuer.get("url")), f"issuers[{i}]", "url")
        taken_series = _Taken("already has this name")
        for j, series in enumerate(list_or_empty(issuer.get("series"))):
            if not isinstance(series, Mapping):
                continue
            yield from taken_series.by(series.get("name"), f"issuers[{i}].series[{j}]", "name")
            provider = series.get("provider")
            if isinstance(provider, str) and isinstance(tables, Mapping) and provider not in tables:
                yield f"issuers[{i}].series[{j}].provider: there is no provider with this name"


class _Taken:
    """Values that only one table may have."""

    def __init__(self, problem: str) -> None:
        self._problem = problem
        self._places: dict[str, str] = {}

    def by(self, value: Any, place: str, key: str) -> Iterator[str]:
        """Take a value for a table. Yield a problem if another table has it."""
        if isinstance(value, str) and (other := self._places.setdefault(value, place)) != place:
            yield f"{place}.{key}: {other} {self._problem}"


def _url_path(url: Any) -> str | None:
    """Return the path at which the JWK Set of an issuer's URL would be served, even if the URL is invalid."""
    if not isinstance(url, str) or "://" not in url:
        return None
    return url.partition("://")[2].partition("/")[2].rstrip("/")


def list_or_empty(value: Any) -> list[Any]:
    """Return the value if it is a list, else an empty list."""
    return value if isinstance(value, list) else []
