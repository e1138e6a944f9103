from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from contract.pkcs11_harness import Pkcs11Harness, TokenOfTests
from sealwright_testing.contract import Outcome, ProviderContract
from sealwright_testing.nss import nss_module, nss_token
from sealwright_testing.pkcs11_faults import VARIABLE, FaultyModule, compiler
from sealwright_testing.softhsm import soft_hsm, softhsm_module
from support.document import tool_missing

NOT_THERE: tuple[str | tuple[Outcome, str], ...] = ("ES256K", "EdDSA", "Ed25519")
NOT_IN_SOFTOKN = "softokn of this version has no such mechanism or curve"


@contextmanager
def behind(
    directory: pytest.TempPathFactory,
    module: str,
    token: TokenOfTests,
    name: str,
    impossible: Mapping[str | tuple[Outcome, str], str],
) -> Iterator[Pkcs11Harness]:
    """Build a module that fails on demand, in front of a token's own module."""
    before = os.environ.get(VARIABLE)
    faulty = FaultyModule(directory.mktemp("faults"), module)
    try:
        # It reads the variable once, when the harness gets its functions.
        yield Pkcs11Harness(name, token, faulty, impossible)
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


# python-pkcs11 0.10 ends a search that could not begin a second time when it is collected, and fails at it.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. 'pkcs11._pkcs11.OperationContext.__del__':pytest.PytestUnraisableExceptionWarning"
)


class TestSoftHsm(ProviderContract):
    @pytest.fixture(scope="class")
    @classmethod
    def harness(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pkcs11Harness]:
        module = softhsm_module()
        if module is None or compiler() is None:
            tool_missing("softhsm2 or a C compiler")
            return
        with soft_hsm(module) as token, behind(tmp_path_factory, module, token, "pkcs11 (SoftHSM)", {}) as harness:
            yield harness


class TestNss(ProviderContract):
    @pytest.fixture(scope="class")
    @classmethod
    def harness(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pkcs11Harness]:
        module = nss_module()
        if module is None or compiler() is None:
            tool_missing("libnss3 with libnss3-tools, or a C compiler")
            return
        impossible = dict.fromkeys(NOT_THERE, NOT_IN_SOFTOKN)
        with nss_token(module) as token, behind(tmp_path_factory, module, token, "pkcs11 (NSS)", impossible) as harness:
            yield harness
