"""The `aws` provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

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
from sealwright_providers.aws.algorithms import MAX_MESSAGE_BYTES, SIGNING_ALGORITHMS, jws_algorithms, key_spec
from sealwright_providers.aws.arn import pinned_arn, resolvable, to_uri
from sealwright_providers.aws.settings import AwsSettings
from sealwright_providers.aws.transport import Answer, Transport

_USAGE: Final = "SIGN_VERIFY"
_ENABLED: Final = "Enabled"
_VISIBILITY_PAUSE: Final = 0.2
_PAGE: Final = 100
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
            metadata = (await self._call("DescribeKey", {"KeyId": name}, limit)).fields.get("KeyMetadata", {})
            return await self._described(metadata, limit)

    async def sign(self, uri: str, algorithm: Algorithm, message: bytes, *, timeout: float) -> RawSignature:
        """See `KeyProvider.sign`. RSA and ECDSA send DIGEST: RAW ends at 4096 bytes (API Reference, Sign)."""
        arn = pinned_arn(uri, region=self._settings.region, account=self._settings.account)
        kms_algorithm = SIGNING_ALGORITHMS.get(algorithm.name)
        if kms_algorithm is None:
            raise ProviderUnsupportedError("AWS KMS keys here do not sign with that algorithm")
        fields: dict[str, Any] = {"KeyId": arn, "SigningAlgorithm": kms_algorithm}
        if self._settings.message == "raw":
            if len(message) > MAX_MESSAGE_BYTES:
                raise MessageTooLargeError(
                    f"AWS KMS signs RAW messages of at most {MAX_MESSAGE_BYTES} bytes; this one has {len(message)}",
                    metadata={"size": str(len(message)), "limit": str(MAX_MESSAGE_BYTES)},
                )
            fields |= {"Message": message, "MessageType": "RAW"}
        else:
            fields |= {"Message": algorithm.digest(message), "MessageType": "DIGEST"}
        answer = await self._transport.call("Sign", fields, timeout=timeout)
        signature, key_id = answer.fields.get("Signature"), answer.fields.get("KeyId")
        if not isinstance(signature, bytes) or not isinstance(key_id, str):
            raise SignatureRejectedError("AWS KMS answered no signature")
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
        except ProviderAccessDeniedError:
            return  # It answers, and signing needs no right to list keys.

    async def create(self, spec: KeySpec, *, timeout: float) -> KeyDescription:
        """See `KeyCreator.create`. Tags go into CreateKey itself, so no key is ever without them."""
        if spec.algorithm.name not in SIGNING_ALGORITHMS or spec.protection is Protection.SOFTWARE:
            raise ProviderUnsupportedError("AWS KMS has no such keys")
        fields = {
            "KeySpec": key_spec(spec.algorithm, spec.rsa_bits),
            "KeyUsage": _USAGE,
            "Description": f"Sealwright: {spec.algorithm.name}",
            "Tags": [{"TagKey": name, "TagValue": value} for name, value in spec.tags.items()],
        }
        async with _limited(timeout) as limit:
            metadata = (await self._call("CreateKey", fields, limit)).fields.get("KeyMetadata", {})
            while True:
                try:
                    return await self._described(metadata, limit)
                except ProviderKeyMissingError:
                    # A new key is not visible everywhere at once (Developer Guide, "AWS KMS eventual consistency").
                    await asyncio.sleep(_VISIBILITY_PAUSE)

    async def find(self, tags: Mapping[str, str], *, timeout: float) -> Sequence[str]:
        """See `KeyFinder.find`. AWS KMS has no search by tag: every key of the account is looked at."""
        async with _limited(timeout) as limit:
            arns = [a async for a in self._all_keys(limit)]
            turns = asyncio.Semaphore(_TAG_LOOKUPS)

            async def tagged(arn: str) -> str | None:
                async with turns:
                    return arn if await self._has_tags(arn, tags, limit) else None

            found = await asyncio.gather(*(tagged(a) for a in arns))
            return [to_uri(a) for a in found if a is not None]

    async def disable(self, uri: str, *, timeout: float) -> None:
        """See `KeyDisabler.disable`."""
        arn = pinned_arn(uri, region=self._settings.region, account=self._settings.account)
        await self._transport.call("DisableKey", {"KeyId": arn}, timeout=timeout)

    async def schedule_deletion(self, uri: str, *, timeout: float) -> None:
        """See `KeyDeleter.schedule_deletion`. AWS KMS waits at least seven days (API Reference, ScheduleKeyDeletion)."""
        arn = pinned_arn(uri, region=self._settings.region, account=self._settings.account)
        fields = {"KeyId": arn, "PendingWindowInDays": _DELETION_DAYS}
        try:
            await self._transport.call("ScheduleKeyDeletion", fields, timeout=timeout)
        except ProviderKeyDisabledError:
            return  # It is pending deletion already: a disabled key can be scheduled.

    async def aclose(self) -> None:
        """See `KeyProvider.aclose`."""
        await self._transport.aclose()

    async def _call(self, operation: str, fields: dict[str, Any], limit: asyncio.Timeout) -> Answer:
        when = limit.when()
        left = 0.0 if when is None else when - asyncio.get_running_loop().time()
        return await self._transport.call(operation, fields, timeout=left)

    async def _described(self, metadata: Mapping[str, Any], limit: asyncio.Timeout) -> KeyDescription:
        arn = metadata.get("Arn")
        if not isinstance(arn, str):
            raise ProviderUnavailableError("AWS KMS answered no description of a key")
        uri = to_uri(arn)
        pinned_arn(uri, region=self._settings.region, account=self._settings.account)
        if metadata.get("KeyState", _ENABLED) != _ENABLED:
            raise ProviderKeyDisabledError("the key in AWS KMS is disabled, pending deletion or not ready")
        answer = (await self._call("GetPublicKey", {"KeyId": arn}, limit)).fields
        public_key = answer.get("PublicKey")
        if not isinstance(public_key, bytes):
            raise ProviderUnavailableError("AWS KMS answered no public key")
        spec = metadata.get("KeySpec") or metadata.get("CustomerMasterKeySpec", "")
        return KeyDescription(
            uri=uri,
            public_key=public_key,
            algorithms=jws_algorithms(list(answer.get("SigningAlgorithms", ())), str(spec)),
            protection=Protection.EXTERNAL if metadata.get("Origin") == "EXTERNAL_KEY_STORE" else Protection.HSM,
        )

    async def _all_keys(self, limit: asyncio.Timeout) -> AsyncIterator[str]:
        fields: dict[str, Any] = {"Limit": _PAGE}
        while True:
            page = (await self._call("ListKeys", fields, limit)).fields
            for key in page.get("Keys", ()):
                yield key["KeyArn"]
            if not page.get("Truncated"):
                return
            fields = {"Limit": _PAGE, "Marker": page["NextMarker"]}

    async def _has_tags(self, arn: str, tags: Mapping[str, str], limit: asyncio.Timeout) -> bool:
        try:
            answer = await self._call("ListResourceTags", {"KeyId": arn}, limit)
        except (ProviderAccessDeniedError, ProviderKeyMissingError):
            return False  # Keys that we made let us read their tags.
        found = {t["TagKey"]: t["TagValue"] for t in answer.fields.get("Tags", ())}
        if any(found.get(name) != value for name, value in tags.items()):
            return False
        metadata = (await self._call("DescribeKey", {"KeyId": arn}, limit)).fields.get("KeyMetadata", {})
        return bool(metadata.get("KeyState") != "PendingDeletion")


@asynccontextmanager
async def _limited(seconds: float) -> AsyncIterator[asyncio.Timeout]:
    """`asyncio.timeout`, with our error."""
    try:
        async with asyncio.timeout(seconds) as limit:
            yield limit
    except TimeoutError:
        raise ProviderTimeoutError("AWS KMS did not answer in time") from None
