from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from providers.pkcs11.pkcs11_support import opened
from sealwright_providers.pkcs11.provider import Pkcs11Provider
from sealwright_testing.nss import NssToken, nss_module, nss_token
from sealwright_testing.pkcs11_faults import FaultyModule, compiler
from sealwright_testing.softhsm import SoftHsm, soft_hsm, softhsm_module
from support.document import tool_missing


@pytest.fixture
def hsm() -> Iterator[SoftHsm]:
    module = softhsm_module()
    if module is None:
        tool_missing("softhsm2")
    else:
        with soft_hsm(module) as token:
            yield token


@pytest.fixture
def nss() -> Iterator[NssToken]:
    module = nss_module()
    if module is None:
        tool_missing("libnss3 with libnss3-tools")
    else:
        with nss_token(module) as token:
            yield token


@pytest.fixture(scope="session")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> FaultyModule:
    """SoftHSM behind a module that fails on demand, built once."""
    module = softhsm_module()
    if module is None or compiler() is None:
        tool_missing("softhsm2 or a C compiler")
    directory: Path = tmp_path_factory.mktemp("faults")
    return FaultyModule(directory, module or "")


@pytest.fixture
def faults(faulty: FaultyModule, hsm: SoftHsm) -> Iterator[FaultyModule]:
    """The same on a new token, without faults. All faults are removed after the test."""
    assert hsm.conf.exists()
    faulty.mend()
    yield faulty
    faulty.mend()


@pytest_asyncio.fixture
async def provider(hsm: SoftHsm) -> AsyncIterator[Pkcs11Provider]:
    """A provider on SoftHSM."""
    async with opened(hsm.settings()) as provider:
        yield provider


@pytest_asyncio.fixture
async def fragile(faults: FaultyModule, hsm: SoftHsm) -> AsyncIterator[Pkcs11Provider]:
    """A provider on SoftHSM behind the module that fails on demand, with two sessions."""
    async with opened(hsm.settings(module=faults.path, sessions=2)) as provider:
        yield provider
        faults.mend()
