"""What the configuration needs of this host: files, directories and installed libraries."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import AfterValidator, BaseModel

from sealwright.config.model import Config
from sealwright.config.wording import path_of
from sealwright.server.addresses import UnixSocket
from sealwright.settings import check_path
from sealwright.sql.settings import StoreSettings

LIBRARIES: Final[Mapping[str, tuple[str, ...]]] = {
    "aws": ("aiohappyeyeballs", "boto3", "httptools"),
    "azure": ("aiohappyeyeballs", "azure.identity", "azure.keyvault.keys", "httptools"),
    "gcp": ("aiohappyeyeballs", "google.cloud.kms_v1", "google_crc32c"),
    "pkcs11": ("pkcs11",),
}
"""The modules that each built-in kind of provider imports when it opens. The extra has the name of the kind."""


def problems_of_host(config: Config) -> Iterator[str]:
    """Yield what a configuration names but this host does not have, as far as this user can see. Change nothing."""
    if config.server.tls is not None:
        yield from _unreadable(config.server.tls, "server", "tls")
    if isinstance(config.server.grpc, UnixSocket):
        yield from _unwritable(Path(config.server.grpc.path).parent, "server.grpc")
    yield from _about_store(config.store)
    yield from _about_audit(Path(config.audit.path))
    for name, provider in config.providers.items():
        missing = [m for m in LIBRARIES.get(provider.kind, ()) if not _is_installed(m)]
        if missing:
            yield (
                f"{path_of(('providers', name))}.kind: {', '.join(missing)} is not installed; "
                f"run: pip install 'sealwright[{provider.kind}]'"
            )
        yield from _unreadable(provider, "providers", name)


def path_settings(settings: BaseModel) -> Iterator[tuple[str, str]]:
    """Yield name and value of the settings of a table that are paths."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, str) and _is_path([field.annotation, *field.metadata]):
            yield name, value


def _unreadable(settings: BaseModel, *place: str) -> Iterator[str]:
    """Yield the files of a table that cannot be read."""
    for name, value in path_settings(settings):
        try:
            with open(value, "rb"):  # noqa: PTH123 - as the service opens it
                pass
        except OSError as e:
            yield f"{path_of((*place, name))}: {value}: {e.strerror}"


def _is_path(parts: list[Any]) -> bool:
    """Return whether an annotation contains `FilePath`."""
    return any(
        (isinstance(part, AfterValidator) and part.func is check_path) or _is_path(list(get_args(part)))
        for part in parts
    )


def _about_store(store: StoreSettings) -> Iterator[str]:
    yield from (f"store.url: {problem}" for problem in store.dialect.missing_here(store.url))
    file = store.dialect.file_of(store.url)
    if file is None:
        return
    if file.is_dir():
        yield f"store.url: {file}: Is a directory"
    elif file.exists() and not os.access(file, os.R_OK | os.W_OK):
        yield f"store.url: {file}: this user may not write it"
    else:
        yield from _unwritable(file.parent, "store.url")


def _about_audit(directory: Path) -> Iterator[str]:
    """Yield a problem if the directory is not writable. The service creates it, so the nearest one that exists counts."""
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    yield from _unwritable(directory, "audit.path")


def _unwritable(directory: Path, place: str) -> Iterator[str]:
    if not directory.exists():
        yield f"{place}: {directory}: No such file or directory"
    elif not directory.is_dir():
        yield f"{place}: {directory}: Not a directory"
    elif not os.access(directory, os.W_OK | os.X_OK):
        yield f"{place}: {directory}: this user may not create files there"


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:  # a package around it is missing
        return False
