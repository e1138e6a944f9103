"""What the tests of the Key Vault emulator share: the official client, and plain requests."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.transport import AioHttpTransport
from azure.core.rest import HttpRequest
from azure.identity.aio import ClientSecretCredential
from azure.keyvault.keys.aio import KeyClient

from sealwright_providers.azure.session import LoopbackResolver
from sealwright_testing.emulators.azure import AzureEmulator


@dataclass(frozen=True, slots=True)
class Refusal:
    """How the service refused."""

    status: int
    code: str
    inner: str | None
    headers: dict[str, str]


class Client:
    """The official client, without its retries, on a pool of connections of its own."""

    def __init__(self, emulator: AzureEmulator, http: aiohttp.ClientSession, **options: Any) -> None:
        self.http = http
        transport = AioHttpTransport(session=http, session_owner=False)
        secret = options.pop("client_secret", emulator.identity.client_secret)
        self.credential = ClientSecretCredential(
            emulator.identity.tenant,
            emulator.identity.client_id,
            secret,
            authority=emulator.endpoint,
            disable_instance_discovery=True,
            transport=transport,
            retry_total=0,
        )
        self.keys = KeyClient(
            **({"vault_url": emulator.vault_url, "transport": transport, "retry_total": 0} | options),
            credential=self.credential,
        )

    async def send(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request and return the JSON of the answer, which must be a success."""
        answer = await self.keys.send_request(HttpRequest(method, path, json=body), retry_total=0)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    async def refusal(self, method: str, path: str, body: Any = None) -> Refusal:
        """Send a request that must be refused, and return how."""
        answer = await self.keys.send_request(HttpRequest(method, path, json=body), retry_total=0)
        assert answer.status_code >= 400, answer.text()
        error = answer.json()["error"]
        inner = error.get("innererror", {}).get("code")
        return Refusal(answer.status_code, error["code"], inner, dict(answer.headers))

    async def sign(self, kid: str, algorithm: str, value: str) -> Any:
        """Sign by the key's identifier."""
        return await self.send("POST", f"{path_of(kid)}/sign", {"alg": algorithm, "value": value})


def path_of(kid: str) -> str:
    """Return the path of a key's identifier, without the first slash."""
    return kid.split("/", 3)[3]


@asynccontextmanager
async def connected(emulator: AzureEmulator, **options: Any) -> AsyncIterator[Client]:
    """Connect the official client as in production: the challenge's resource is verified."""
    context = ssl.create_default_context(cafile=emulator.ca)
    connector = aiohttp.TCPConnector(ssl=context, resolver=LoopbackResolver())
    async with aiohttp.ClientSession(connector=connector) as http:
        client = Client(emulator, http, **options)
        try:
            yield client
        finally:
            await client.keys.close()
            await client.credential.close()


async def failure(awaitable: Any) -> HttpResponseError:
    """Return the error of the SDK that something awaited raises."""
    try:
        await awaitable
    except HttpResponseError as error:
        return error
    raise AssertionError("it was not refused")
