"""Kind A: connections to a KMS die in every way, for every transport and pool size, although the KMS is well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from faults.forwarder import Death, Forwarder
from sealwright_testing.emulators.aws import AwsEmulator
from sealwright_testing.emulators.azure import AzureEmulator
from sealwright_testing.emulators.gcp import GcpEmulator
from support.document import document, issuer, series
from support.four_providers import aws_settings, azure_settings, gcp_settings
from support.service import Service, failure, running

TRANSPORTS = ("aws", "aws-boto3", "azure", "gcp")
SIGN = {"aws": "Sign", "aws-boto3": "Sign", "azure": "Sign", "gcp": "AsymmetricSign"}


@asynccontextmanager
async def backend(transport: str, directory: Path) -> AsyncIterator[tuple[dict[str, Any], Forwarder, Any]]:
    """Start an emulator behind a forwarder. Yield the provider's table, the forwarder and the emulator."""
    if transport.startswith("aws"):
        async with AwsEmulator() as aws, Forwarder(port_of(aws.endpoint)) as network:
            table = aws_settings(aws) | {"endpoint_url": f"http://127.0.0.1:{network.port}"}
            yield table | ({"transport": "boto3"} if transport == "aws-boto3" else {}), network, aws
    elif transport == "azure":
        async with AzureEmulator() as azure, Forwarder(port_of(azure.endpoint)) as network:
            table = azure_settings(azure, directory)
            table["vault_url"] = f"{table['vault_url'].rpartition(':')[0]}:{network.port}"
            yield table, network, azure
    else:
        with GcpEmulator() as gcp:
            async with Forwarder(port_of(gcp.address)) as network:
                yield gcp_settings(gcp) | {"endpoint": f"127.0.0.1:{network.port}"}, network, gcp


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


@asynccontextmanager
async def service(
    transport: str, directory: Path, width: int, **more: Any
) -> AsyncIterator[tuple[Service, Forwarder, Any]]:
    """Run the service on a backend, after a burst that has filled the pool of connections."""
    async with backend(transport, directory) as (table, network, emulator):
        one = issuer("payments", series=[series(provider="kms")])
        table |= {"max_in_flight": width, **more}
        async with running(document(directory, "", one, providers={"kms": table})) as running_service:
            emulator.add_fault("delay", operation=SIGN[transport], seconds=0.05, times=width)
            assert await burst(running_service, width) == []
            emulator.clear_faults()
            yield running_service, network, emulator


async def burst(service: Service, width: int) -> list[str]:
    """Ask for signatures at once, and return the reasons of those that failed."""
    results = await asyncio.gather(*(service.sign() for _ in range(width)), return_exceptions=True)
    return [(await failure(raised(r))).reason for r in results if isinstance(r, BaseException)]


async def raised(error: BaseException) -> None:
    raise error


def guard_of(service: Service) -> Any:
    return service.app._providers["kms"]


@pytest.mark.parametrize("death", [d for d in Death if d is not Death.SILENCE])
@pytest.mark.parametrize("width", [1, 12, 48])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_f01_no_caller_notices_that_all_connections_have_died(
    tmp_path: Path, transport: str, width: int, death: Death
) -> None:
    async with service(transport, tmp_path, width) as (running_service, network, _):
        assert network.kill(death)
        for _ in range(2):
            assert await burst(running_service, width) == []
        guard = guard_of(running_service)
        assert not guard.breaker.open
        assert guard.trouble is None
        assert (await running_service.get("/readyz"))[0] == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_f01_silent_connections_cost_one_short_failure(tmp_path: Path, transport: str) -> None:
    async with service(transport, tmp_path, 4, timeout="1s") as (running_service, network, _):
        network.kill(Death.SILENCE)
        await burst(running_service, 4)
        assert await burst(running_service, 4) == []


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_f01_a_kms_that_ends_every_connection_is_a_failure(tmp_path: Path, transport: str) -> None:
    async with service(transport, tmp_path, 4) as (running_service, network, emulator):
        emulator.add_fault("drop_connection", operation=SIGN[transport])
        assert set(await burst(running_service, 4)) <= {"PROVIDER_UNAVAILABLE", "PROVIDER_TIMEOUT"}
        assert guard_of(running_service).trouble is not None
        assert network.made <= 40
