"""F17: a configuration that does not fit the keys in the store is refused at start and by `config check`, with the way out."""

from __future__ import annotations

import asyncio
import copy
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from sealwright.app import build
from sealwright.config import parse
from sealwright.errors import ConfigurationError
from sealwright_providers.azure.settings import AzureSettings
from sealwright_providers.gcp.settings import GcpSettings
from sealwright_providers.pkcs11.settings import Pkcs11Settings
from sealwright_testing.emulators.aws import AwsEmulator
from support.document import QUICK_TIMING, document, issuer, quick_issuer, series
from support.processes import BIN, write_config
from support.service import running, until

Document = dict[str, Any]


@pytest.fixture
async def emulator() -> AsyncIterator[AwsEmulator]:
    async with AwsEmulator() as running_emulator:
        yield running_emulator


def first(config: Document) -> Document:
    found: Document = config["issuers"][0]
    return found


def _region(config: Document) -> None:
    config["providers"]["aws"]["region"] = "us-east-1"


def _account(config: Document) -> None:
    config["providers"]["aws"]["account"] = "999999999999"


def _algorithm(config: Document) -> None:
    first(config)["series"][0]["algorithm"] = "ES384"


def _same_kind_of_key(config: Document) -> None:
    first(config)["series"][1]["algorithm"] = "PS256"


def _series_name(config: Document) -> None:
    first(config)["series"][0]["name"] = "other"


def _two_names(config: Document) -> None:
    first(config)["series"] = [series(name="a"), series("RS256", name="b")]


def _swapped_names(config: Document) -> None:
    first(config)["series"][0]["name"], first(config)["series"][1]["name"] = "rs256", "es256"


def _other_algorithm_alone(config: Document) -> None:
    first(config)["series"] = [series("PS256")]


def _url(config: Document) -> None:
    first(config)["url"] = "https://id.example.com/pay"


def _slash(config: Document) -> None:
    first(config)["url"] += "/"


def _issuer_name(config: Document) -> None:
    first(config)["name"] = "payment"


def _provider_name(config: Document) -> None:
    config["providers"]["aws-eu"] = config["providers"].pop("aws")
    for one in config["issuers"]:
        for each in one["series"]:
            each["provider"] = "aws-eu"


CHANGES: dict[Callable[[Document], None], tuple[str, str]] = {
    _region: ("providers.aws", "outside"),
    _account: ("providers.aws", "outside"),
    _algorithm: ("issuers[0].series[0].algorithm", "keeps its algorithm"),
    _same_kind_of_key: ("issuers[0].series[1].algorithm", "keeps its algorithm"),
    _series_name: ("issuers[0].series", "keeps its name"),
    _two_names: ("issuers[0].series", "keeps its name"),
    _swapped_names: ("issuers[0].series[0].algorithm", "keeps its algorithm"),
    _other_algorithm_alone: ("issuers[0].series", "keeps its name"),
    _url: ("issuers[0].url", "keeps its URL"),
    _slash: ("issuers[0].url", "keeps its URL"),
    _issuer_name: ("issuers[0].name", "keeps its name"),
    _provider_name: ("issuers[0].series[0]", "a provider keeps its name"),
}


async def checked(directory: Path, config: Document) -> tuple[int, list[str]]:
    """Run `config check`."""
    arguments = [str(BIN / "sealwright"), "config", "check", write_config(directory, config), "--output", "json"]
    run = await asyncio.to_thread(subprocess.run, arguments, capture_output=True, timeout=60, check=False)
    return run.returncode, json.loads(run.stdout)["problems"]


async def test_f17_a_change_behind_the_keys_is_refused_with_the_way_out(tmp_path: Path, emulator: AwsEmulator) -> None:
    config = document(tmp_path, emulator.endpoint, issuer("payments", "ES256", "RS256"))
    async with running(config) as service:
        kids = set(await service.published())
        assert await checked(tmp_path, config) == (0, [])
    for change, (path, why) in CHANGES.items():
        changed = copy.deepcopy(config)
        change(changed)
        with pytest.raises(ConfigurationError) as refused:
            await build(parse(changed)).start()
        status, problems = await checked(tmp_path, changed)
        assert status == 1
        assert list(refused.value.problems) == problems
        assert any(p.startswith(f"{path}: ") and why in p for p in problems), change
        assert not any("arn:" in p for p in problems)
    assert len(emulator.keys) == len(kids)
    async with running(config) as service:
        assert set(await service.published()) == kids


def _more(config: Document) -> None:
    first(config)["series"].append(series("ES384"))
    config["issuers"].append(issuer("orders"))


def _fewer(config: Document) -> None:
    first(config)["series"].pop()


def _order(config: Document) -> None:
    first(config)["series"].reverse()


def _more_precise(config: Document) -> None:
    config["providers"]["aws"]["account"] = "000000000000"


@pytest.mark.parametrize("change", [_more, _fewer, _order, _more_precise])
async def test_f17_other_changes_are_fine(
    tmp_path: Path, emulator: AwsEmulator, change: Callable[[Document], None]
) -> None:
    config = document(tmp_path, emulator.endpoint, issuer("payments", "ES256", "RS256"))
    async with running(config) as service:
        arn = (await service.list_keys())[0].key_uri
    change(config)
    if change is _more_precise:
        config["providers"]["aws"]["account"] = arn.split(":")[5]
    assert (await checked(tmp_path, config)) == (0, [])
    async with running(config) as service:
        await service.sign()


async def test_f17_the_way_out_works_and_is_refused_only_until_the_lead_is_over(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    """A new series, its lead, and then the old one goes."""
    timing = {**QUICK_TIMING, "verifier_refresh": "0s"}
    config = document(tmp_path, emulator.endpoint, quick_issuer(), timing=timing)
    async with running(config):
        pass
    only_new = copy.deepcopy(config)
    first(only_new)["series"] = [series(name="new", min_lead="0s")]
    both = copy.deepcopy(config)
    first(both)["series"].append(series(name="new", min_lead="0s"))
    with pytest.raises(ConfigurationError, match="keeps its name"):
        await build(parse(only_new)).start()
    async with running(both, wait=False) as service:

        async def made() -> bool:
            return len(await service.published()) == 4

        await until(made)
        with pytest.raises(ConfigurationError, match="no other key may sign"):
            await build(parse(only_new)).start()

        async def allowed() -> bool:
            return (await checked(tmp_path, only_new))[0] == 0

        await until(allowed)
    async with running(only_new) as service:
        await service.verify((await service.sign()).token)


async def test_f17_config_check_makes_no_store_and_offline_does_not_look(tmp_path: Path, emulator: AwsEmulator) -> None:
    config = document(tmp_path, emulator.endpoint)
    assert await checked(tmp_path, config) == (0, [])
    assert not (tmp_path / "state.db").exists()


def test_f17_every_kind_of_provider_knows_its_own_keys() -> None:
    gcp = GcpSettings(project="p", location="l1", key_ring="r")
    ring = "gcpkms://projects/p/locations/l1/keyRings/r"
    assert gcp.owns(f"{ring}/cryptoKeys/k/cryptoKeyVersions/1")
    assert not gcp.owns(f"{ring}2/cryptoKeys/k/cryptoKeyVersions/1")
    azure = AzureSettings(vault_url="https://One.vault.azure.net")
    assert azure.owns("azurekms://one.vault.azure.net/keys/k/" + "0" * 32)
    assert not azure.owns("azurekms://two.vault.azure.net/keys/k/" + "0" * 32)
    label = Pkcs11Settings(module="/m.so", token_label="my token", pin_env="PIN")
    assert label.owns("pkcs11:token=my%20token;id=%01;type=private")
    assert not label.owns("pkcs11:token=my%20token2;id=%01;type=private")
    assert not label.owns("pkcs11:serial=my%20token;id=%01;type=private")
    serial = Pkcs11Settings(module="/m.so", token_serial="77", pin_env="PIN")
    assert serial.owns("pkcs11:serial=77;id=%01;type=private")
    assert not serial.owns("pkcs11:token=77;id=%01;type=private")
