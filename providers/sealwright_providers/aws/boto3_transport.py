"""AWS KMS through boto3, in threads: for moto in the same process, and where calls must pass through the SDK."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import botocore
import botocore.exceptions

from sealwright.provider import ProviderError, ProviderTimeoutError, ProviderUnavailableError
from sealwright_providers.aws.endpoint import Session, client_config, endpoint_of
from sealwright_providers.aws.errors import CredentialsRefusedError, to_provider_error
from sealwright_providers.aws.identity import account_of
from sealwright_providers.aws.settings import AwsSettings
from sealwright_providers.aws.transport import REPEATABLE, Answer

_DIED: Final = (botocore.exceptions.ConnectionClosedError, botocore.exceptions.HTTPClientError)
"""Exactly these: their other subclasses are timeouts, and connections that could not be made."""
_WITHOUT_ANSWER: Final = frozenset({"DisableKey"})
_MAX_THREADS: Final = 16
"""More threads make boto3 slower."""


class Boto3Transport:
    """One client in a pool of threads. Using a client is thread-safe; making one is not."""

    def __init__(self, settings: AwsSettings) -> None:
        self._settings = settings
        self._session = session = Session(settings)
        seconds = settings.timeout.total_seconds()
        self._client = session.create_client(
            "kms",
            region_name=settings.region,
            endpoint_url=endpoint_of(session, settings),
            config=client_config(
                settings,
                connect_timeout=seconds,
                read_timeout=seconds,
                retries={"total_max_attempts": 1},
                max_pool_connections=_MAX_THREADS,
            ),
        )
        self._closed = False
        self._clearing = threading.Lock()
        self._cleared = 0
        self._threads = ThreadPoolExecutor(max_workers=_MAX_THREADS, thread_name_prefix="sealwright-aws")

    async def call(self, operation: str, fields: dict[str, Any], *, timeout: float) -> Answer:
        """See `Transport.call`. A cancelled call goes on in its thread, for the provider's `timeout` at most."""
        if timeout <= 0:
            raise ProviderTimeoutError("the deadline passed before AWS KMS could be called")
        if self._closed:
            raise ProviderUnavailableError("the provider is closed")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                answer = await loop.run_in_executor(self._threads, self._run, operation, fields)
        except (TimeoutError, botocore.exceptions.ReadTimeoutError, botocore.exceptions.ConnectTimeoutError):
            raise ProviderTimeoutError("AWS KMS did not answer before the deadline") from None
        except botocore.exceptions.ClientError as e:
            # Without the cause, whose text names the account and the key.
            raise _refusal(e.response) from None
        except botocore.exceptions.NoCredentialsError:
            raise CredentialsRefusedError(
                "no AWS credentials found; configure one of the sources of the AWS default chain"
            ) from None
        except Exception as e:
            # Errors of the SDK itself, and what it raises where an answer does not come from AWS KMS.
            raise ProviderUnavailableError("AWS KMS cannot be reached") from e
        return Answer(answer, answer.get("ResponseMetadata", {}).get("RequestId"))

    def _run(self, operation: str, fields: dict[str, Any]) -> Any:
        method = getattr(self._client, botocore.xform_name(operation))
        cleared = self._cleared
        try:
            answer = method(**fields)
        except botocore.exceptions.HTTPClientError as error:
            # Besides a closed connection, this may be a pool that another thread has just cleared.
            if operation not in REPEATABLE or type(error) not in _DIED:
                raise
        else:
            # A connection that ended within an answer can look like an answer without fields.
            if answer.keys() != {"ResponseMetadata"} or operation not in REPEATABLE - _WITHOUT_ANSWER:
                return answer
        # The SDK does not tell whether the connection was an old one. All of them may be dead, so begin with none; but do not take
        # the new ones away from calls that have already done so.
        with self._clearing:
            if self._cleared == cleared:
                self._cleared += 1
                self._client.close()
        return method(**fields)

    async def account(self, *, timeout: float) -> str:
        """See `Transport.account`."""
        return await account_of(self._session, self._settings, None, timeout)

    async def aclose(self) -> None:
        """Wait for the threads and close the client. May be called twice."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown)
        self._client.close()


def _refusal(response: Any) -> ProviderError:
    code = str(response.get("Error", {}).get("Code", ""))
    metadata = response.get("ResponseMetadata", {})
    retry_after = str(metadata.get("HTTPHeaders", {}).get("retry-after", ""))
    seconds = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else None
    return to_provider_error(
        code,
        int(metadata.get("HTTPStatusCode", 0)),
        seconds,
        text=str(response.get("Error", {}).get("Message", "")),
        request_id=metadata.get("RequestId"),
    )
