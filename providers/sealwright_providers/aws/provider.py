"""The `aws` provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from sealwright.errors import (
    MessageTooLargeError,
    ProviderAccessDeniedError,
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
    SignatureRejectedError,
)
from sealwright.jose.algorithms import Algorithm, Scheme
from sealwright.jose.signatures import SignatureEncoding
from sealwright.kms.provider import KeyDescription, KeySpec, Protection, RawSignature
from sealwright_providers.aws.algorithms import (
    KMS_ALGORITHMS,
    MAX_MESSAGE_BYTES,
    jws_algorithms,
    key_spec,
    takes_digest,
)
from sealwright_providers.aws.arn import pinned_arn, resolvable, to_uri
from sealwright_providers.aws.errors import CredentialsRefusedError
from sealwright_providers.aws.settings import AwsSettings
from sealwright_providers.aws.transport import Answer, Transport

T = TypeVar("T")

_SIGN_USAGE: Final = "SIGN_VERIFY"
_MAC_USAGE: Final = "GENERATE_VERIFY_MAC"
_ENABLED: Final = "Enabled"
_CREATING: Final = "Creating"
_ENDING: Final = frozenset({"PendingDeletion", "PendingReplicaDeletion"})
_VISIBILITY_PAUSE: Final = 0.2
_PAGE: Final = 100
_TAG_PAGE: Final = 50
_TAG_LOOKUPS: Final = 8
_DELETION_DAYS: Final = 7


class AwsProvider:
    """Keys of AWS KMS in one region. Keys are pinned by ARN: an ARN's key never changes (asymmetric keys do not rotate)."""

    def __init__(self, settings: AwsSettings, transport: Transport) -> None:
        self._settings = settings
        self._transport = transport

    async def describe(self, uri: str, *, timeout: float) -> KeyDescription:
        """See `KeyProvider.describe`. An alias is resolved to the key that it names now."""
        name = resolvable(uri, region=self._settings.region, account=self._settings.account)
        async with _limited(timeout) as limit:
            metadata = await self._metadata("DescribeKey", {"KeyId": name}, limit)
            if "alias/" not in name and metadata["Arn"] != name:
                raise ProviderUnavailableError("AWS KMS described another key than the one that was asked for")
            return await self._described(metadata, limit)

    async def sign(self, uri: str, algorithm: Algorithm, message: bytes, *, timeout: float) -> RawSignature:
        """See `KeyProvider.sign`. RSA and ECDSA send DIGEST: RAW, which EdDSA needs, ends at 4096 bytes (API Reference, Sign)."""
        arn = pinned_arn(uri, region=self._settings.region, account=self._settings.account)
        kms_algorithm = KMS_ALGORITHMS.get(algorithm.name)
        if kms_algorithm is None:
            raise ProviderUnsupportedError("AWS KMS keys here do not sign with that algorithm")
        digest = takes_digest(algorithm) and self._settings.message == "digest"
        if not digest and len(message) > MAX_MESSAGE_BYTES:
            raise MessageTooLargeError(
                f"AWS KMS signs such messages up to {MAX_MESSAGE_BYTES} bytes; this one has {len(message)}",
                metadata={"size": str(len(message)), "limit": str(MAX_MESSAGE_BYTES)},
            )
        fields: dict[str, Any] = {"KeyId": arn, "Message": algorithm.digest(message) if digest else message}
        if algorithm.symmetric:
            name, result = "MacAlgorithm", "Mac"
            answer = await self._transport.call("GenerateMac", fields | {name: kms_algorithm}, timeout=timeout)
        else:
            name, result = "SigningAlgorithm", "Signature"
            fields["MessageType"] = "DIGEST" if digest else "RAW"
            answer = await self._transport.call("Sign", fields | {name: kms_algorithm}, timeout=timeout)
        signature, key_id = answer.fields.get(result), answer.fields.get("KeyId")
        if not isinstance(signature, bytes) or not isinstance(key_id, str):
            # No alarm: half an answer is an outage, and nothing that could pass for a signature.
            raise ProviderUnavailableError("AWS KMS answered no signature")
        if answer.fields.get(name, kms_algorithm) != kms_algorithm:
            raise SignatureRejectedError("AWS KMS signed with another algorithm than the one that was asked for")
        ecdsa = algorithm.scheme is Scheme.ECDSA
        return RawSignature(
            value=signature,
            encoding=SignatureEncoding.DER if ecdsa else SignatureEncoding.OPAQUE,
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
            return  # It answers, and signing needs no right to list keys.

    async def create(self, spec: KeySpec, *, timeout: float) -> KeyDescription:
        """See `KeyCreator.create`. Tags go into CreateKey itself, so no key is ever without them."""
        if spec.algorithm.name not in KMS_ALGORITHMS or spec.protection is Protection.SOFTWARE:
            raise ProviderUnsupportedError("AWS KMS has no such keys")
        fields = {
            "KeySpec": key_spec(spec.algorithm, spec.rsa_bits),
            "KeyUsage": _MAC_USAGE if spec.algorithm.symmetric else _SIGN_USAGE,
            "Description": f"Sealwright: {spec.algorithm.name}",
            "Tags": [{"TagKey": name, "TagValue": value} for name, value in spec.tags.items()],
        }
        async with _limited(timeout) as limit:
            metadata = await self._metadata("CreateKey", fields, limit)
            while True:
                # A new key is not visible everywhere at once (Developer Guide, "AWS KMS eventual consistency"), and where it
                # is, it may still be Creating ("Key states").
                try:
                    return await self._described(metadata, limit)
                except ProviderKeyMissingError:
                    await asyncio.sleep(_VISIBILITY_PAUSE)
                except ProviderKeyDisabledError:
                    metadata = await self._once_created(metadata["Arn"], limit)

    async def find(self, tags: Mapping[str, str], *, timeout: float) -> Sequence[str]:
        """See `KeyFinder.find`. AWS KMS has no search by tag: every key of the account is looked at."""
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
        """See `KeyDeleter.schedule_deletion`. AWS KMS waits at least seven days (API Reference, ScheduleKeyDeletion)."""
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
        when = limit.when()
        left = 0.0 if when is None else when - asyncio.get_running_loop().time()
        return await self._transport.call(operation, fields, timeout=left)

    async def _metadata(self, operation: str, fields: dict[str, Any], limit: asyncio.Timeout) -> Mapping[str, Any]:
        metadata = (await self._call(operation, fields, limit)).fields.get("KeyMetadata")
        if not isinstance(metadata, dict):
            raise ProviderUnavailableError("AWS KMS answered no description of a key")
        _text(metadata, "Arn")
        return metadata

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
                raise ProviderKeyDisabledError("the new key in AWS KMS is not usable")

    async def _described(self, metadata: Mapping[str, Any], limit: asyncio.Timeout) -> KeyDescription:
        arn = _text(metadata, "Arn")
        uri = to_uri(arn)
        pinned_arn(uri, region=self._settings.region, account=self._settings.account)
        if metadata.get("KeyState", _ENABLED) != _ENABLED:
            raise ProviderKeyDisabledError("the key in AWS KMS is disabled, pending deletion or not ready")
        public_key, algorithms = b"", metadata.get("MacAlgorithms") or []
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
        )

    async def _public_key(self, arn: str, limit: asyncio.Timeout) -> tuple[bytes, list[str]]:
        """Return a key's SubjectPublicKeyInfo and its SigningAlgorithms."""
        answer = (await self._call("GetPublicKey", {"KeyId": arn}, limit)).fields
        public_key, algorithms = answer.get("PublicKey"), answer.get("SigningAlgorithms") or []
        if not isinstance(public_key, bytes) or not isinstance(algorithms, list):
            raise ProviderUnavailableError("AWS KMS answered no public key")
        # By its last part: AWS answers the ARN here, and some emulators the bare id.
        if _text(answer, "KeyId").rpartition("/")[2] != arn.rpartition("/")[2]:
            raise ProviderUnavailableError("AWS KMS answered another key's public key")
        return public_key, algorithms

    async def _pages(
        self, operation: str, name: str, fields: Mapping[str, Any], limit: asyncio.Timeout
    ) -> AsyncIterator[list[dict[str, Any]]]:
        marker: dict[str, str] = {}
        while True:
            page = (await self._call(operation, {**fields, **marker}, limit)).fields
            items = page.get(name)
            # Not to be taken for an empty list: a key that is overlooked is made a second time.
            if not isinstance(items, list) or not all(isinstance(i, dict) for i in items):
                raise ProviderUnavailableError("AWS KMS answered no list")
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
            metadata = await self._metadata("DescribeKey", {"KeyId": arn}, limit)
        except CredentialsRefusedError:
            raise
        except (ProviderAccessDeniedError, ProviderKeyMissingError, ProviderUnsupportedError):
            return False  # Keys that we made let us read their tags.
        return metadata.get("KeyState") not in _ENDING


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise ProviderUnavailableError("AWS KMS answered something that its API does not have")
    return value


async def _together(jobs: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Run jobs side by side, and leave none behind where one fails or the caller leaves."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _limited(seconds: float) -> AsyncIterator[asyncio.Timeout]:
    """`asyncio.timeout`, with our error."""
    try:
        async with asyncio.timeout(seconds) as limit:
            yield limit
    except TimeoutError:
        raise ProviderTimeoutError("AWS KMS did not answer in time") from None
