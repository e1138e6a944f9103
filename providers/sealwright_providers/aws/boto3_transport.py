"""AWS KMS through boto3, in threads: for moto in process, and wherever the SDK itself is wanted on the way."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import botocore
import botocore.config
import botocore.exceptions
import botocore.session

from sealwright.errors import ProviderAccessDeniedError, ProviderTimeoutError, ProviderUnavailableError
from sealwright_providers.aws.errors import to_provider_error
from sealwright_providers.aws.settings import AwsSettings
from sealwright_providers.aws.transport import Answer

_MAX_THREADS: Final = 16
"""More make boto3 slower, not faster."""


class Boto3Transport:
    """One client in a pool of threads: using a client is thread-safe, making one is not."""

    def __init__(self, settings: AwsSettings) -> None:
        session = botocore.session.Session()
        endpoint = settings.endpoint_url
        if endpoint is None:
            resolved = session.get_component("endpoint_resolver").construct_endpoint("kms", settings.region)
            endpoint = f"https://{resolved['hostname']}"
        seconds = settings.timeout.total_seconds()
        self._client = session.create_client(
            "kms",
            region_name=settings.region,
            endpoint_url=endpoint,
            config=botocore.config.Config(
                connect_timeout=seconds,
                read_timeout=seconds,
                retries={"total_max_attempts": 1},
                max_pool_connections=_MAX_THREADS,
                proxies={},
                ignore_configured_endpoint_urls=True,  # type: ignore[call-arg] # missing in botocore-stubs
            ),
        )
        self._threads = ThreadPoolExecutor(max_workers=_MAX_THREADS, thread_name_prefix="sealwright-aws")

    async def call(self, operation: str, fields: dict[str, Any], *, timeout: float) -> Answer:
        """See `Transport.call`. A call that is cancelled ends in its thread, after the provider's `timeout` at the latest."""
        method = getattr(self._client, botocore.xform_name(operation))
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                fields = await loop.run_in_executor(self._threads, lambda: method(**fields))
        except (TimeoutError, botocore.exceptions.ReadTimeoutError, botocore.exceptions.ConnectTimeoutError):
            raise ProviderTimeoutError("AWS KMS did not answer in time") from None
        except botocore.exceptions.ClientError as e:
            code = str(e.response.get("Error", {}).get("Code", ""))
            raise to_provider_error(code, int(e.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))) from e
        except botocore.exceptions.NoCredentialsError as e:
            raise ProviderAccessDeniedError("the service has no AWS credentials") from e
        except botocore.exceptions.BotoCoreError as e:
            raise ProviderUnavailableError("AWS KMS cannot be reached") from e
        return Answer(fields, str(fields.get("ResponseMetadata", {}).get("RequestId", "")))

    async def aclose(self) -> None:
        """Wait for the threads and close the client. May be called twice."""
        await asyncio.to_thread(self._threads.shutdown)
        self._client.close()
