"""`sealwright store`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from pydantic import ValidationError
from sqlalchemy.engine import URL

from sealwright.audit.witness_file import WitnessFile
from sealwright.cli.arguments import config_option
from sealwright.cli.output import fail, output_option, show
from sealwright.clock import SystemClock, boot_id
from sealwright.config import Config, load, problems_with_store
from sealwright.errors import (
    ConfigurationError,
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    SealwrightError,
)
from sealwright.ids import uuid7
from sealwright.keys.acceptance import accept
from sealwright.keys.lifecycle import Key, published
from sealwright.keys.ports import StoreState, StoreUnavailableError
from sealwright.keys.settings import limits
from sealwright.keys.timekeeping import Timekeeper, newest_other, of_boot
from sealwright.keys.witness import Witness, WitnessUnreadableError, differences, objection, witness_of
from sealwright.sql.copying import copy_store
from sealwright.sql.settings import StoreSettings
from sealwright.sql.store import SqlStore

T = TypeVar("T")

_CHANGED: Final = StoreUnavailableError("the store was changed at the same time; try again")


@click.group()
def store() -> None:
    """Back up, copy, check and accept the store."""


@store.command()
@config_option
@click.argument("target", type=click.Path(path_type=Path))
@output_option
def backup(path: Path, target: Path, output: str) -> None:
    """Copy the store to the new file TARGET. The service may be running.

    The copy is consistent and complete, and needs no other file. It contains no private key. Exit status: 0, or 1 if the copy
    could not be made.
    """
    settings = _loaded(path, output).store
    url = URL.create("sqlite", database=str(target.absolute())).render_as_string()

    async def run() -> StoreState:
        if not settings.dialect.exists(settings.url):
            raise ConfigurationError(["store.url: there is no store"])
        settings.dialect.backup(settings.url, target)
        copy = await SqlStore.open(settings.model_copy(update={"url": url}), upgrade=False)
        async with contextlib.aclosing(copy):
            return await copy.read()

    state = _run(run, output, target)
    show(output, f"{target}: a copy of the store at revision {state.revision}", {"path": str(target)} | _about(state))


@store.command(name="copy")
@config_option
@click.argument("target")
@output_option
def copy_command(path: Path, target: str, output: str) -> None:
    """Copy the store to the empty database at the URL TARGET, and compare both afterwards.

    Stop the service first, and never start it with the old store again. On PostgreSQL run `sealwright db upgrade` with the target
    before. Exit status: 0, or 1 if there is no copy that may be used.
    """
    config = _loaded(path, output)
    try:
        settings = StoreSettings(url=target)
    except ValidationError as e:
        fail(output, [f"target: {e.errors()[0]['ctx']['error']}"])
    rows = _run(lambda: copy_store(config.store, settings), output, path)
    text = f"{rows['keys']} keys of {rows['issuers']} issuers are copied and compared; now set store.url to the target"
    show(output, text, {"rows": rows})


@store.command()
@config_option
@output_option
def check(path: Path, output: str) -> None:
    """Check whether the store is the one whose keys have been published from here.

    Compares the store with its witness, the file store-witness.json in the directory of the audit. Changes nothing. Exit status:
    0 if the service can use the store, else 1.
    """
    config = _loaded(path, output)

    async def run() -> tuple[StoreState, Timekeeper]:
        opened = await SqlStore.open(config.store, upgrade=False)
        async with contextlib.aclosing(opened):
            return await _read(opened, config)

    witness, problem = _witness(config)
    state, keeper = _run(run, output, path)
    problems = [problem] if problem else []
    if keeper.jump is not None:
        problems.append(f"the store's clock was set: it has jumped by {keeper.jump.total_seconds():+.0f} s")
    here = witness_of(state, "")
    if witness is not None and (reason := objection(witness, here)) is not None:
        problems += [reason, *map(str, differences(witness.keys, here.keys))]
        problems += (
            f"provider {name} was blocked, and is not in the store" for name in sorted(witness.blocked - here.blocked)
        )
    problems += problems_with_store(config, state)
    if problems:
        fail(output, problems, _about(state))
    show(output, f"the store at revision {state.revision} can be used", {"problems": []} | _about(state))


@store.command(name="accept")
@config_option
@click.option("--without-kms", is_flag=True, help="Do not ask the KMS which keys are disabled.")
@output_option
def accept_command(path: Path, without_kms: bool, output: str) -> None:
    """Let the service use the store as it is, although the store is older than what has been published, lost or another one.

    Keys that had been retired or revoked are so again, and keys that the KMS reports as disabled or missing are revoked. New keys
    wait for their lead. If the store's clock was set, the new time is taken for right. The command lists the keys that are lost.
    The service may be running, and uses the store within seconds. Exit status: 0, or 1 if the store could not be accepted.
    """
    config = _loaded(path, output)
    witness, problem = _witness(config)

    async def run() -> tuple[StoreState, list[str] | None]:
        opened = await SqlStore.open(config.store)
        async with contextlib.aclosing(opened):
            state, keeper = await _read(opened, config)
            refused = problem is not None or (
                witness is not None and objection(witness, witness_of(state, "")) is not None
            )
            notes: list[str] = []
            if refused:
                unusable = {} if without_kms else await _unusable(config, state)
                known, blocked = (witness.keys, witness.blocked) if witness else ({}, frozenset[str]())
                plan = accept(state, known, unusable, blocked)
                notes += plan.notes
                bounds = {i.name: limits(i, config.timing) for i in config.issuers if i.name in plan.published}
                if not await opened.repair(state, plan.changed, bounds, state.time, plan.blocked):
                    raise _CHANGED
                state = await opened.read()
            if keeper.jump is not None:
                if not await opened.settle_clock(state, keeper.shift, keeper.settled(boot_id())):
                    raise _CHANGED
                notes.append(f"all times in the store have moved by {keeper.shift.total_seconds():+.0f} s")
                state = await opened.read()
        if refused:
            WitnessFile(Path(config.audit.path)).replace(witness_of(state, uuid7()))
        return state, notes if refused or keeper.jump is not None else None

    state, notes = _run(run, output, path)
    if notes is None:
        show(
            output,
            "there is nothing to accept: the store can be used",
            {"accepted": False, "notes": []} | _about(state),
        )
        return
    text = "\n".join([*notes, f"the store at revision {state.revision} is accepted"])
    show(output, text, {"accepted": True, "notes": notes} | _about(state))


async def _read(opened: SqlStore, config: Config) -> tuple[StoreState, Timekeeper]:
    """Read a store, and judge its clock as a process of the service would."""
    clock, boot = SystemClock(), boot_id()
    keeper = Timekeeper(config.timing.max_clock_error)
    started = clock.elapsed()
    state = await opened.read()
    keeper.adopt(of_boot(state.clocks, boot), newest_other(state.clocks, boot), state.moves)
    keeper.read(state.time, started=started, ended=clock.elapsed())
    return state, keeper


def _loaded(path: Path, output: str) -> Config:
    try:
        return load(path)
    except ConfigurationError as e:
        fail(output, e.problems)


def _witness(config: Config) -> tuple[Witness | None, str | None]:
    """Return the witness, and why it cannot be read."""
    try:
        return WitnessFile(Path(config.audit.path)).read(), None
    except WitnessUnreadableError as e:
        return None, f"audit.path: the witness of the store cannot be read: {e}"


def _run(work: Callable[[], Coroutine[Any, Any, T]], output: str, file: Path) -> T:
    try:
        return asyncio.run(work())
    except ConfigurationError as e:
        fail(output, e.problems)
    except StoreUnavailableError as e:
        fail(output, [f"store.url: {e}"])
    except OSError as e:
        fail(output, [f"{e.filename or file}: {e.strerror}"])


async def _unusable(config: Config, state: StoreState) -> dict[str, str]:
    """Ask the KMS about all keys that would be published or would sign. Return why it would not sign with some, by kid.

    Raises:
        ConfigurationError: The KMS cannot be asked.
    """
    # Imported here, because it loads gRPC.
    from sealwright.app import open_provider  # noqa: PLC0415

    # Keys that have left the JWK Set are disabled at the end of their life.
    keys = [k for i in state.issuers.values() for k in i.keys if published(k, state.time) and not k.destroy_time]
    found: dict[str, str] = {}
    async with contextlib.AsyncExitStack() as stack:
        for name in {k.provider for k in keys}:
            if name not in config.providers:
                raise ConfigurationError([f"providers.{name}: keys of the store are there, but it is not configured"])
            provider = await open_provider(config, name, SystemClock())
            stack.push_async_callback(provider.aclose)
            mine: Sequence[Key] = [k for k in keys if k.provider == name]
            for key in mine:
                try:
                    await provider.describe(key.uri, timeout=provider.manage_timeout)
                except ProviderKeyDisabledError:
                    found[key.kid] = "it is disabled in the KMS"
                except ProviderKeyMissingError:
                    found[key.kid] = "the KMS does not have it"
                except SealwrightError as e:
                    hint = "correct it, or use --without-kms"
                    raise ConfigurationError([f"providers.{name}: the KMS cannot be asked ({e.reason}): {hint}"]) from e
    return found


def _about(state: StoreState) -> dict[str, Any]:
    keys = sum(len(i.keys) for i in state.issuers.values())
    return {"deployment_id": state.deployment_id, "revision": state.revision, "keys": keys}
