"""The `aws` provider."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from sealwright.provider import (
    Algorithm,
    KeyDescription,
    KeySpec,
    Protection,
    ProviderAccessDeniedError,
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
    RawSignature,
    SignatureEncoding,
    SignatureRejectedError,
    Timekeeper,
)
from sealwright_providers.aws.algorithms import KMS_ALGORITHMS, jws_algorithms, key_spec
from sealwright_providers.aws.arn import account_in, pinned_arn, resolvable, to_uri
from sealwright_providers.aws.errors import CredentialsRefusedError
from sealwright_providers.aws.identity import AccountUnknownError
from sealwright_providers.aws.inputs import PublicKeys, SignInput, direct
from sealwright_providers.aws.settings import AwsSettings
from sealwright_providers.aws.transport import Answer, Transport

T = TypeVar("T")

log = logging.getLogger(__name__)

_SIGN_USAGE: Final = "SIGN_VERIFY"
_MAC_USAGE: Final = "GENERATE_VERIFY_MAC"
_ENABLED: Final = "Enabled"
_CREATING: Final = "Creating"
_ENDING: Final = frozenset({"PendingDeletion", "PendingReplicaDeletion"})
_VISIBILITY_PAUSE: Final = 0.2
_PAGE: Final = 100
_TAG_PAGE: Final = 50
_TAG_LOOKUPS: Final = 8
_DELETION_DAYS: Final = 30
"""The longest waiting period that AWS KMS has."""


class AwsProvider:
    """Keys of AWS KMS in one region. An ARN pins a key, since it always means the same one (asymmetric keys do not rotate)."""

    def __init__(self, settings: AwsSettings, transport: Transport) -> None:
        self._settings = settings
        self._transport = transport
        self._public_keys = PublicKeys()

    async def describe(self, uri: str, *, timeout: float) -> KeyDescription:
        """See `KeyProvider.describe`. An alias is resolved to the key that it names now."""
        name = resolvable(uri, region=self._settings.region, account=self._settings.account)
        async with _limited(timeout) as limit:
            metadata = await self._metadata("DescribeKey", {"KeyId": name}, limit)
            if "alias/" not in name and metadata["Arn"] != name:
                raise ProviderUnavailableError("AWS KMS described a different key from the one requested")
            return await self._described(metadata, limit)

    async def sign(self, uri: str, algorithm: Algorithm, message: bytes, *, timeout: float) -> RawSignature:
        """See `KeyProvider.sign`. Sends DIGEST where it can, since RAW takes at most 4096 bytes (API Reference, Sign).

        For a longer message, ML-DSA sends EXTERNAL_MU. The first such message of a key costs a second call, GetPublicKey.
        """
        arn = pinned_arn(uri, region=self._settings.region, account=self._settings.account)
        kms_algorithm = KMS_ALGORITHMS.get(algorithm.name)
        if kms_algorithm is None:
            raise ProviderUnsupportedError(f"AWS KMS does not sign with {algorithm.name}")
        sent = direct(algorithm, message, digest=self._settings.message == "digest")
        if sent is None:
            start = asyncio.get_running_loop().time()
            sent = await self._representative(arn, algorithm, message, timeout)
            timeout -= asyncio.get_running_loop().time() - start
        fields: dict[str, Any] = {"KeyId": arn, "Message": sent.message}
        if algorithm.symmetric:
            name, result = "MacAlgorithm", "Mac"
            answer = await self._transport.call("GenerateMac", fields | {name: kms_algorithm.name}, timeout=timeout)
        else:
            name, result = "SigningAlgorithm", "Signature"
            fields["MessageType"] = sent.message_type
            answer = await self._transport.call("Sign", fields | {name: kms_algorithm.name}, timeout=timeout)
        signature, key_id = answer.fields.get(result), answer.fields.get("KeyId")
        if not isinstance(signature, bytes) or not isinstance(key_id, str):
            # An incomplete answer is an outage, not an alarm: it contains nothing that could pass for a signature.
            raise ProviderUnavailableError("the answer of AWS KMS contains no signature")
        if answer.fields.get(name, kms_algorithm.name) != kms_algorithm.name:
            raise SignatureRejectedError("AWS KMS signed with a different algorithm from the one requested")
        return RawSignature(
            value=signature,
            encoding=SignatureEncoding.DER if algorithm.two_integers else SignatureEncoding.OPAQUE,
            key_uri=to_uri(key_id),
            request_id=answer.request_id,
        )

    async def check(self, *, timeout: float) -> None:
        """See `KeyProvider.check`."""
        try:
            await self._transport.call("ListKeys", {"Limit": 1}, timeout=timeout)
        except CredentialsRefusedError:
            raise
        except ProviderAccessDeniedError:
            return  # AWS KMS answers, and signing does not need the permission to list keys.

    async def identity(self, *, timeout: float) -> str:
        """See `IdentityTeller.identity`. Returns the number of the AWS account."""
        return await self._transport.account(timeout=timeout)

    def time_error(self) -> float | None:
        """See `Timekeeper.time_error`. AWS refuses requests whose time is off by more than five minutes."""
        return self._transport.time_error() if isinstance(self._transport, Timekeeper) else None

    async def create(self, spec: KeySpec, *, timeout: float) -> KeyDescription:
        """See `KeyCreator.create`. CreateKey itself sets the tags, so that every key has them."""
        if spec.algorithm.name not in KMS_ALGORITHMS:
            raise ProviderUnsupportedError(f"AWS KMS does not create keys for {spec.algorithm.name}")
        if spec.protection not in {None, Protection.HSM}:
            raise ProviderUnsupportedError(f"AWS KMS creates keys only in HSMs; the request asks for {spec.protection}")
        fields = {
            "KeySpec": key_spec(spec.algorithm, spec.rsa_bits),
            "KeyUsage": _MAC_USAGE if spec.algorithm.symmetric else _SIGN_USAGE,
            "Description": f"Sealwright: {spec.algorithm.name}",
            "Tags": [{"TagKey": name, "TagValue": value} for name, value in spec.tags.items()],
        }
        async with _limited(timeout) as limit:
            await self._require_account(limit)
            metadata = await self._metadata("CreateKey", fields, limit)
            await spec.created(to_uri(metadata["Arn"]))
            self._uri(metadata)
            while True:
                # A new key becomes visible with a delay (Developer Guide, "AWS KMS eventual consistency"), and may then still
                # be Creating ("Key states").
                try:
                    return await self._described(metadata, limit)
                except ProviderKeyMissingError:
                    await asyncio.sleep(_VISIBILITY_PAUSE)
                except ProviderKeyDisabledError:
                    metadata = await self._once_created(metadata["Arn"], limit)

    async def find(self, tags: Mapping[str, str], *, timeout: float) -> Sequence[str]:
        """See `KeyFinder.find`. AWS KMS has no search by tag, so this reads the tags of every key of the account."""
        async with _limited(timeout) as limit:
            turns = asyncio.Semaphore(_TAG_LOOKUPS)

            async def tagged(arn: str) -> bool:
                async with turns:
                    return await self._has_tags(arn, tags, limit)

            found: list[str] = []
            async for page in self._pages("ListKeys", "Keys", {"Limit": _PAGE}, limit):
                arns = [_text(key, "KeyArn") for key in page]
                marks = await _together([tagged(arn) for arn in arns])
                found += [to_uri(arn) for arn, mark in zip(arns, marks, strict=True) if mark]
            return found

    async def disable(self, uri: str, *, timeout: float) -> None:
        """See `KeyDisabler.disable`."""
        arn = pinned_arn(uri, region=self._settings.region, account=self._settings.account)
        await self._transport.call("DisableKey", {"KeyId": arn}, timeout=timeout)

    async def schedule_deletion(self, uri: str, *, timeout: float) -> None:
        """See `KeyDeleter.schedule_deletion`. AWS KMS waits 7 to 30 days (API Reference, ScheduleKeyDeletion)."""
        arn = pinned_arn(uri, region=self._settings.region, account=self._settings.account)
        fields = {"KeyId": arn, "PendingWindowInDays": _DELETION_DAYS}
        async with _limited(timeout) as limit:
            try:
                await self._call("ScheduleKeyDeletion", fields, limit)
            except ProviderKeyDisabledError:
                metadata = await self._metadata("DescribeKey", {"KeyId": arn}, limit)
                if metadata.get("KeyState") not in _ENDING:
                    raise

    async def aclose(self) -> None:
        """See `KeyProvider.aclose`."""
        await self._transport.aclose()

    async def _call(self, operation: str, fields: dict[str, Any], limit: asyncio.Timeout) -> Answer:
        return await self._transport.call(operation, fields, timeout=_left(limit))

    async def _metadata(self, operation: str, fields: dict[str, Any], limit: asyncio.Timeout) -> Mapping[str, Any]:
        metadata = (await self._call(operation, fields, limit)).fields.get("KeyMetadata")
        if not isinstance(metadata, dict):
            raise ProviderUnavailableError("the answer of AWS KMS contains no description of a key")
        _text(metadata, "Arn")
        return metadata

    async def _require_account(self, limit: asyncio.Timeout) -> None:
        """Compare `account` with the account of the credentials. If AWS STS does not tell, compare it with that of any key.

        Raises:
            ProviderAccessDeniedError: They differ, or the account cannot be found out. Nothing was created.
        """
        wanted = self._settings.account
        if wanted is None:
            return
        try:
            found: str | None = await self._transport.account(timeout=_left(limit))
        except (AccountUnknownError, ProviderTimeoutError):
            keys = (await self._call("ListKeys", {"Limit": 1}, limit)).fields.get("Keys") or []
            found = account_in(_text(keys[0], "KeyArn")) if keys else None
        if found is None:
            raise ProviderAccessDeniedError(
                "it cannot be found out which AWS account the credentials belong to, because AWS STS does not answer"
            )
        if found != wanted:
            # Both numbers are needed to mend this. No other text of the provider names an account.
            log.error("account is %s, but the AWS credentials belong to account %s: no key is created", wanted, found)
            raise ProviderAccessDeniedError("the AWS credentials belong to another account than `account`")

    def _uri(self, metadata: Mapping[str, Any]) -> str:
        """Return the URI of a key, if it is in the region and the account."""
        uri = to_uri(_text(metadata, "Arn"))
        pinned_arn(uri, region=self._settings.region, account=self._settings.account)
        return uri

    async def _once_created(self, arn: str, limit: asyncio.Timeout) -> Mapping[str, Any]:
        while True:
            await asyncio.sleep(_VISIBILITY_PAUSE)
            try:
                metadata = await self._metadata("DescribeKey", {"KeyId": arn}, limit)
            except ProviderKeyMissingError:
                continue
            state = metadata.get("KeyState", _ENABLED)
            if state == _ENABLED:
                return metadata
            if state != _CREATING:
                raise ProviderKeyDisabledError("the new key in AWS KMS is neither enabled nor being created")

    async def _described(self, metadata: Mapping[str, Any], limit: asyncio.Timeout) -> KeyDescription:
        arn, uri = _text(metadata, "Arn"), self._uri(metadata)
        if metadata.get("KeyState", _ENABLED) != _ENABLED:
            raise ProviderKeyDisabledError("the key in AWS KMS is disabled, pending deletion or not ready")
        public_key: bytes | None = None
        algorithms = metadata.get("MacAlgorithms") or []
        if metadata.get("KeyUsage") != _MAC_USAGE:
            public_key, algorithms = await self._public_key(arn, limit)
        if metadata.get("KeyUsage", _SIGN_USAGE) not in {_SIGN_USAGE, _MAC_USAGE} or not isinstance(algorithms, list):
            algorithms = []
        spec = metadata.get("KeySpec") or metadata.get("CustomerMasterKeySpec", "")
        return KeyDescription(
            uri=uri,
            public_key=public_key,
            algorithms=jws_algorithms(algorithms, str(spec)),
            protection=Protection.EXTERNAL if metadata.get("Origin") == "EXTERNAL_KEY_STORE" else Protection.HSM,
            imported=metadata.get("Origin") == "EXTERNAL",
        )

    async def _public_key(self, arn: str, limit: asyncio.Timeout) -> tuple[bytes, list[str]]:
        """Return a key's SubjectPublicKeyInfo and its SigningAlgorithms."""
        answer = (await self._call("GetPublicKey", {"KeyId": arn}, limit)).fields
        public_key, algorithms = answer.get("PublicKey"), answer.get("SigningAlgorithms") or []
        if not isinstance(public_key, bytes) or not isinstance(algorithms, list):
            raise ProviderUnavailableError("the answer of AWS KMS contains no public key")
        # Compare the last part only: AWS returns the ARN here, some emulators the bare ID.
        if _text(answer, "KeyId").rpartition("/")[2] != arn.rpartition("/")[2]:
            raise ProviderUnavailableError("AWS KMS returned the public key of another key")
        return public_key, algorithms

    async def _representative(self, arn: str, algorithm: Algorithm, message: bytes, timeout: float) -> SignInput:
        """Compute the message representative. Fetch the public key, on which it depends, once in the provider's life.

        A wrong public key cannot lead to a token: the core verifies the signature with the key that it publishes.
        """
        if arn not in self._public_keys:
            async with _limited(timeout) as limit:
                public_key, _ = await self._public_key(arn, limit)
            self._public_keys.add(arn, public_key)
        return self._public_keys.representative(arn, algorithm, message)

    async def _pages(
        self, operation: str, name: str, fields: Mapping[str, Any], limit: asyncio.Timeout
    ) -> AsyncIterator[list[dict[str, Any]]]:
        marker: dict[str, str] = {}
        while True:
            page = (await self._call(operation, {**fields, **marker}, limit)).fields
            items = page.get(name)
            # Do not take this for an empty list: a key that is overlooked would be created a second time.
            if not isinstance(items, list) or not all(isinstance(i, dict) for i in items):
                raise ProviderUnavailableError("the answer of AWS KMS contains no list")
            yield items
            if not page.get("Truncated"):
                return
            marker = {"Marker": _text(page, "NextMarker")}

    async def _has_tags(self, arn: str, tags: Mapping[str, str], limit: asyncio.Timeout) -> bool:
        found: dict[str, str] = {}
        try:
            async for page in self._pages("ListResourceTags", "Tags", {"KeyId": arn, "Limit": _TAG_PAGE}, limit):
                found |= {_text(t, "TagKey"): _text(t, "TagValue") for t in page}
            if any(found.get(name) != value for name, value in tags.items()):
                return False
        except CredentialsRefusedError:
            raise
        except (ProviderAccessDeniedError, ProviderKeyMissingError, ProviderUnsupportedError):
            return False  # We may read the tags of the keys that we created.
        try:
            metadata = await self._metadata("DescribeKey", {"KeyId": arn}, limit)
        except CredentialsRefusedError:
            raise
        except (ProviderAccessDeniedError, ProviderKeyMissingError):
            return True  # The permission for a new key, and the key itself, may be visible with a delay.
        return metadata.get("KeyState") not in _ENDING


def _left(limit: asyncio.Timeout) -> float:
    when = limit.when()
    return 0.0 if when is None else when - asyncio.get_running_loop().time()


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise ProviderUnavailableError(f"the answer of AWS KMS has no text in {name}")
    return value


async def _together(jobs: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Run jobs concurrently, and end all of them where one fails or the caller cancels."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _limited(seconds: float) -> AsyncIterator[asyncio.Timeout]:
    """Limit the time like `asyncio.timeout`, and raise our error."""
    try:
        async with asyncio.timeout(seconds) as limit:
            yield limit
    except TimeoutError:
        raise ProviderTimeoutError("AWS KMS did not answer before the deadline") from None
