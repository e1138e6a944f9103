"""Shared by the tests of the AWS KMS emulator: the real client, and a signer that can make wrong signatures."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import aiohttp
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from sealwright_testing.emulators.aws import AwsEmulator

_SESSION = boto3.session.Session()


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error of the service."""

    code: str
    message: str
    status: int


class Kms:
    """The real boto3 client without its retries and its own checks. Each call runs in a thread."""

    def __init__(self, client: Any) -> None:
        self.client = client

    async def __call__(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Return the answer of an operation, such as `create_key`."""
        answer: dict[str, Any] = await asyncio.to_thread(getattr(self.client, operation), **parameters)
        return answer

    async def refusal(self, operation: str, **parameters: Any) -> Refusal:
        """Return the error of an operation, which must fail."""
        try:
            await self(operation, **parameters)
        except ClientError as error:
            response: Mapping[str, Any] = error.response
            return Refusal(
                response["Error"]["Code"], response["Error"]["Message"], response["ResponseMetadata"]["HTTPStatusCode"]
            )
        raise AssertionError(f"{operation} was not refused")

    async def code(self, operation: str, **parameters: Any) -> str:
        """Return the code of the error."""
        return (await self.refusal(operation, **parameters)).code

    async def key(self, spec: str = "ECC_NIST_P256", usage: str = "SIGN_VERIFY", **parameters: Any) -> str:
        """Create a key and return its ARN."""
        answer = await self("create_key", KeySpec=spec, KeyUsage=usage, **parameters)
        arn: str = answer["KeyMetadata"]["Arn"]
        return arn

    async def state(self, key_id: str) -> str:
        """Return the state of a key."""
        state: str = (await self("describe_key", KeyId=key_id))["KeyMetadata"]["KeyState"]
        return state


@asynccontextmanager
async def connect(emulator: AwsEmulator, **options: Any) -> AsyncIterator[Kms]:
    """Connect the real client to an emulator. `options` replace the defaults."""
    settings: dict[str, Any] = {
        "endpoint_url": emulator.endpoint,
        "region_name": emulator.region,
        "aws_access_key_id": emulator.access_key,
        "aws_secret_access_key": emulator.secret_key,
        "config": Config(
            retries={"total_max_attempts": 1}, parameter_validation=False, read_timeout=30, connect_timeout=5
        ),
    }
    client = await asyncio.to_thread(lambda: _SESSION.client("kms", **(settings | options)))
    try:
        yield Kms(client)
    finally:
        client.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Makes Signature Version 4 step by step, so that a test can change each part."""

    access_key: str = "test"
    secret_key: str = "test"
    region: str = "eu-west-1"
    service: str = "kms"
    terminator: str = "aws4_request"
    algorithm: str = "AWS4-HMAC-SHA256"
    age: timedelta = timedelta()
    scope_date: str | None = None
    unsigned: tuple[str, ...] = ()

    def sign(self, host: str, operation: str, body: bytes, **extra: str) -> dict[str, str]:
        """Return the headers of a request; `extra` are headers whose names have `_` for `-`."""
        moment = (datetime.now(UTC) - self.age).strftime("%Y%m%dT%H%M%SZ")
        headers = {
            "content-type": "application/x-amz-json-1.1",
            "host": host,
            "x-amz-date": moment,
            "x-amz-target": f"TrentService.{operation}",
        } | {name.replace("_", "-"): value for name, value in extra.items()}
        names = sorted(set(headers) - set(self.unsigned))
        canonical = "\n".join(
            [
                "POST\n/\n",
                *(f"{n}:{headers[n]}" for n in names),
                "",
                ";".join(names),
                hashlib.sha256(body).hexdigest(),
            ]
        )
        scope = f"{self.scope_date or moment[:8]}/{self.region}/{self.service}/{self.terminator}"
        text = f"{self.algorithm}\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = f"AWS4{self.secret_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        headers["authorization"] = (
            f"{self.algorithm} Credential={self.access_key}/{scope}, SignedHeaders={';'.join(names)}, "
            f"Signature={hmac.digest(key, text.encode(), 'sha256').hex()}"
        )
        return headers


async def post(endpoint: str, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
    """Send a request unchanged, and return the status and the JSON of the answer."""
    async with aiohttp.ClientSession() as session, session.post(endpoint, headers=headers, data=body) as answer:
        return answer.status, json.loads(await answer.read() or b"{}")


async def control(emulator: AwsEmulator, method: str, path: str, body: object = None) -> Any:
    """Send a request to the emulator's own paths, and return the JSON of the answer. It must succeed."""
    url = f"{emulator.endpoint}/_emulator/{path}"
    async with aiohttp.ClientSession() as session, session.request(method, url, json=body) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()
