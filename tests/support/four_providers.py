"""All four kinds of backend at once, each with the faults that it knows under a common name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sealwright_testing.emulators.aws import AwsEmulator, ThreadedAwsEmulator
from sealwright_testing.emulators.azure import AzureEmulator
from sealwright_testing.emulators.azure.emulator import ThreadedAzureEmulator
from sealwright_testing.emulators.gcp import GcpEmulator
from sealwright_testing.pkcs11_faults import Call, FaultyModule, compiler
from sealwright_testing.softhsm import SoftHsm, soft_hsm, softhsm_module
from support.document import tool_missing

PROVIDERS = ("aws", "gcp", "azure", "pkcs11")
SIGN = {"aws": "Sign", "gcp": "AsymmetricSign", "azure": "Sign"}
"""The operation that signs, by provider."""
FAULTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "denied": {
        "aws": {"kind": "error", "type": "AccessDeniedException"},
        "gcp": {"kind": "error", "code": "PERMISSION_DENIED"},
        "azure": {"kind": "deny"},
    },
    "throttled": {
        "aws": {"kind": "throttle"},
        "gcp": {"kind": "throttle"},
        "azure": {"kind": "throttle"},
    },
    "unavailable": {
        "aws": {"kind": "http_500"},
        "gcp": {"kind": "unavailable"},
        "azure": {"kind": "http_500"},
    },
    "hang": {
        "aws": {"kind": "hang"},
        "gcp": {"kind": "hang"},
        "azure": {"kind": "hang"},
    },
}
"""The options of `add_fault`, by what goes wrong and provider."""
ACTION_PROHIBITED, DEVICE_ERROR = 0x1B, 0x30
_FOREVER = 600_000


def aws_settings(emulator: AwsEmulator, **more: Any) -> dict[str, Any]:
    """Return a provider's table in the configuration."""
    return {"kind": "aws", "region": emulator.region, "endpoint_url": emulator.endpoint, **more}


def gcp_settings(emulator: GcpEmulator, **more: Any) -> dict[str, Any]:
    """Return a provider's table in the configuration."""
    return {
        "kind": "gcp",
        "project": emulator.project,
        "location": emulator.location,
        "key_ring": emulator.key_ring,
        "endpoint": emulator.address,
        "insecure_endpoint": True,
        **more,
    }


def azure_settings(emulator: AzureEmulator, directory: Path, **more: Any) -> dict[str, Any]:
    """Return a provider's table in the configuration. Write the client secret to the directory."""
    secret = directory / "client-secret"
    secret.write_text(emulator.identity.client_secret, encoding="ascii")
    return {
        "kind": "azure",
        "vault_url": emulator.vault_url,
        "credential": "client_secret",
        "tenant_id": emulator.identity.tenant,
        "client_id": emulator.identity.client_id,
        "client_secret_file": str(secret),
        "authority": emulator.endpoint,
        "ca_file": emulator.ca,
        **more,
    }


@dataclass(frozen=True, slots=True)
class FourProviders:
    """Three emulators, and a token of SoftHSM behind a module that fails on demand."""

    aws: AwsEmulator
    gcp: GcpEmulator
    azure: AzureEmulator
    hsm: SoftHsm
    module: FaultyModule

    def settings(self, directory: Path, **more: Any) -> dict[str, dict[str, Any]]:
        """Return the tables of all providers, named by kind."""
        return {
            "aws": aws_settings(self.aws, **more),
            "gcp": gcp_settings(self.gcp, **more),
            "azure": azure_settings(self.azure, directory, **more),
            "pkcs11": self.hsm.settings(module=self.module.path, sessions=4, **more),
        }

    def break_(self, provider: str, fault: str) -> None:
        """Make all signatures of a provider fail."""
        if provider == "pkcs11":
            self._break_token(fault)
        else:
            emulator: AwsEmulator | GcpEmulator | AzureEmulator = getattr(self, provider)
            emulator.add_fault(operation=SIGN[provider], **FAULTS[fault][provider])

    def mend(self) -> None:
        """Remove all faults."""
        for emulator in (self.aws, self.gcp, self.azure):
            emulator.clear_faults()
        self.module.mend()

    def _break_token(self, fault: str) -> None:
        if fault == "hang":
            self.module.delay(Call.SIGN_INIT, _FOREVER)
        else:
            # PKCS#11 has no error for throttling: AWS CloudHSM returns CKR_DEVICE_ERROR.
            self.module.fail(Call.SIGN_INIT, ACTION_PROHIBITED if fault == "denied" else DEVICE_ERROR)


def faulty_module(directory: Path) -> FaultyModule:
    """Build the module that fails on demand around SoftHSM. Skip the test if SoftHSM or a C compiler is missing."""
    module = softhsm_module()
    if module is None or compiler() is None:
        tool_missing("softhsm2 or a C compiler")
    return FaultyModule(directory, module or "")


@contextmanager
def four_providers(directory: Path) -> Iterator[FourProviders]:
    """Start all of them. The emulators run in threads, so that tests with their own event loops can share them."""
    module = faulty_module(directory)
    with ExitStack() as stack:
        aws = stack.enter_context(ThreadedAwsEmulator())
        gcp = stack.enter_context(GcpEmulator())
        azure = stack.enter_context(ThreadedAzureEmulator())
        hsm = stack.enter_context(soft_hsm(softhsm_module() or ""))
        four = FourProviders(aws, gcp, azure, hsm, module)
        stack.callback(four.mend)
        yield four
