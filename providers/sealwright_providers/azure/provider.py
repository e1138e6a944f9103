"""The `azure` provider."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from sealwright.provider import (
    Algorithm,
    KeyDescription,
    KeySpec,
    Protection,
    ProviderAccessDeniedError,
    ProviderError,
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
    RawSignature,
    SignatureEncoding,
)
from sealwright_providers.azure.algorithms import AZURE_ALGORITHMS, key_parameters
from sealwright_providers.azure.connection import Answer, Connection
from sealwright_providers.azure.errors import DELETED, MISSING, CredentialsRefusedError
from sealwright_providers.azure.keys import (
    INTENT,
    Version,
    check_tags,
    describe,
    has_tags,
    items_of,
    key_name,
    oldest,
    tags_of,
    version_of,
)
from sealwright_providers.azure.settings import AzureSettings
from sealwright_providers.azure.uri import SCHEME, KeyName, KeyUris

_VISIBILITY_PAUSE: Final = 0.2
_REPEATABLE: Final = frozenset({"GET", "PATCH"})
"""Methods whose requests the vault may get twice. CreateKey would make two versions."""
_KNOWN_URIS: Final = 1024


class _Target(NamedTuple):
    """What a signature with one key needs, so that it is worked out once.

    Attributes:
        name: The key's name.
        path: Where to send the digest.
        kid: The `kid` that the answer must have.
    """

    name: str
    path: str
    kid: str


class AzureProvider:
    """Keys of one Key Vault or Managed HSM. A version is immutable: rotation makes another one."""

    def __init__(self, settings: AzureSettings, connection: Connection) -> None:
        self._managed_hsm = settings.is_managed_hsm
        self._host = settings.host
        self._uris = KeyUris(settings.host)
        self._connection = connection
        self._targets: dict[str, _Target] = {}

    async def describe(self, uri: str, *, timeout: float) -> KeyDescription:
        """See `KeyProvider.describe`. A URI without a version is resolved to the version that is the newest now."""
        key = self._uris.resolvable(uri)
        async with _limited(timeout) as limit:
            try:
                return await self._described(key, limit)
            except ProviderKeyMissingError:
                raise await self._absence(key.name, limit) from None

    async def sign(self, uri: str, algorithm: Algorithm, message: bytes, *, timeout: float) -> RawSignature:
        """See `KeyProvider.sign`. Key Vault takes digests only, and for HMAC what is to be authenticated."""
        target = self._targets.get(uri) or self._target(uri)
        if algorithm.name not in AZURE_ALGORITHMS or (algorithm.symmetric and not self._managed_hsm):
            raise ProviderUnsupportedError(f"Key Vault does not sign with {algorithm.name} here")
        value = algorithm.digest(message) if algorithm.prehashed else message
        body = b'{"alg":"%b","value":"%b"}' % (algorithm.name.encode(), base64.urlsafe_b64encode(value).rstrip(b"="))
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        try:
            answer = await self._connection.call("POST", target.path, body, timeout=timeout, repeatable=True)
        except ProviderKeyMissingError:
            async with _limited(end - loop.time()) as limit:
                raise await self._absence(target.name, limit) from None
        text, kid = answer.fields.get("value"), answer.fields.get("kid")
        if not isinstance(text, str) or not isinstance(kid, str):
            # An incomplete answer is an outage, not an alarm: it contains nothing that could pass for a signature.
            raise ProviderUnavailableError("the answer of Key Vault contains no signature")
        try:
            signature = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise ProviderUnavailableError("the answer of Key Vault contains no signature") from None
        return RawSignature(
            value=signature,
            encoding=SignatureEncoding.CONCATENATED if algorithm.two_integers else SignatureEncoding.OPAQUE,
            # Key Vault compares names without regard to case. Any other kid is passed on for the core to refuse.
            key_uri=uri if kid.lower() == target.kid else SCHEME + kid.removeprefix("https://"),
            request_id=answer.request_id,
        )

    async def check(self, *, timeout: float) -> None:
        """See `KeyProvider.check`."""
        try:
            await self._connection.call("GET", self._connection.target("keys", "&maxresults=1"), timeout=timeout)
        except CredentialsRefusedError:
            raise
        except ProviderAccessDeniedError:
            return  # Key Vault answers, and signing does not need the permission to list keys.

    def time_error(self) -> float | None:
        """See `Timekeeper.time_error`."""
        return self._connection.time_error()

    async def create(self, spec: KeySpec, *, timeout: float) -> KeyDescription:
        """See `KeyCreator.create`. The key is named after its intent.

        CreateKey on a name that exists would make a new version of that key, so this looks for the name first.
        """
        protection = self._protection(spec)
        check_tags(spec.tags)
        name = key_name(spec.tags)
        async with _limited(timeout) as limit:
            found = await self._versions(name, limit)
            ours = oldest(found, spec.tags)
            if ours is None and found:
                raise ProviderUnsupportedError("a key with other tags has the name of this intent")
            if ours is None:
                parameters = key_parameters(spec.algorithm, spec.rsa_bits, hsm=protection is Protection.HSM)
                fields = parameters | {"attributes": {"enabled": True}, "tags": dict(spec.tags)}
                answer = await self._call("POST", f"keys/{name}/create", limit, fields=fields)
                uri = describe(answer.fields, self._uris, KeyName(name, None)).uri
            else:
                uri = f"{SCHEME}{self._host}/keys/{name}/{ours.version}"
            await spec.created(uri)
            key = self._uris.pinned(uri)
            while True:
                try:
                    return await self._described(key, limit)
                except ProviderKeyMissingError:  # A Managed HSM copies a new key to its other partitions with a delay.
                    await asyncio.sleep(_VISIBILITY_PAUSE)

    async def find(self, tags: Mapping[str, str], *, timeout: float) -> Sequence[str]:
        """See `KeyFinder.find`. With the tag of an intent, this reads that one key; otherwise all keys of the vault."""
        async with _limited(timeout) as limit:
            names = [key_name(tags)] if INTENT in tags else await self._names(tags, limit)
            found = [(name, v) for name in names for v in await self._versions(name, limit) if has_tags(v.tags, tags)]
        return [f"{SCHEME}{self._host}/keys/{name}/{v.version}" for name, v in found]

    async def disable(self, uri: str, *, timeout: float) -> None:
        """See `KeyDisabler.disable`. Disables the one version."""
        key = self._uris.pinned(uri)
        async with _limited(timeout) as limit:
            fields = {"attributes": {"enabled": False}}
            await self._call("PATCH", f"keys/{key.name}/{key.version}", limit, fields=fields)

    async def schedule_deletion(self, uri: str, *, timeout: float) -> None:
        """See `KeyDeleter.schedule_deletion`: a soft deletion. Key Vault purges the key after the vault's own 7 to 90 days.

        A deletion deletes all versions, so it is refused where a version belongs to something else.
        """
        key = self._uris.pinned(uri)
        async with _limited(timeout) as limit:
            versions = await self._versions(key.name, limit)
            ours = next((v for v in versions if v.version == key.version), None)
            if ours is None:
                absence = await self._absence(key.name, limit) if not versions else ProviderKeyMissingError(MISSING)
                if isinstance(absence, ProviderKeyDisabledError):
                    return
                raise absence
            if any(v.tags.get(INTENT) != ours.tags.get(INTENT) or INTENT not in v.tags for v in versions if v != ours):
                raise ProviderUnsupportedError("the key has other versions, which Key Vault would delete with this one")
            try:
                await self._call("DELETE", f"keys/{key.name}", limit)
            except (ProviderKeyMissingError, ProviderKeyDisabledError):
                absence = await self._absence(key.name, limit)
                if not isinstance(absence, ProviderKeyDisabledError):
                    raise absence from None

    async def aclose(self) -> None:
        """See `KeyProvider.aclose`."""
        await self._connection.aclose()

    def _target(self, uri: str) -> _Target:
        key = self._uris.pinned(uri)
        path = self._connection.target(f"keys/{key.name}/{key.version}/sign")
        if len(self._targets) >= _KNOWN_URIS:
            self._targets.clear()
        target = _Target(key.name, path, f"https://{self._host}/keys/{key.name}/{key.version}".lower())
        self._targets[uri] = target
        return target

    def _protection(self, spec: KeySpec) -> Protection:
        """Return where a new key is kept.

        Raises:
            ProviderUnsupportedError: The vault has no such keys.
        """
        if spec.algorithm.name not in AZURE_ALGORITHMS:
            raise ProviderUnsupportedError(f"Key Vault does not create keys for {spec.algorithm.name}")
        if spec.algorithm.symmetric and not self._managed_hsm:
            raise ProviderUnsupportedError(f"only a Managed HSM has keys for {spec.algorithm.name}")
        default = Protection.HSM if self._managed_hsm else Protection.SOFTWARE
        wanted = spec.protection or default
        if wanted is Protection.EXTERNAL or (self._managed_hsm and wanted is not Protection.HSM):
            raise ProviderUnsupportedError(f"the vault does not create keys with the protection {wanted}")
        return wanted

    async def _call(
        self, method: str, path: str, limit: asyncio.Timeout, *, fields: object = None, query: str = ""
    ) -> Answer:
        when = limit.when()
        left = 0.0 if when is None else when - asyncio.get_running_loop().time()
        body = None if fields is None else json.dumps(fields, separators=(",", ":")).encode()
        target = self._connection.target(path, query)
        return await self._connection.call(method, target, body, timeout=left, repeatable=method in _REPEATABLE)

    async def _described(self, key: KeyName, limit: asyncio.Timeout) -> KeyDescription:
        answer = await self._call("GET", f"keys/{key.name}/{key.version or ''}", limit)
        return describe(answer.fields, self._uris, key)

    async def _absence(self, name: str, limit: asyncio.Timeout) -> ProviderError:
        """Return the error for a key that Key Vault does not find: it is missing, or soft-deleted."""
        try:
            await self._call("GET", f"deletedkeys/{name}", limit)
        except (ProviderKeyMissingError, ProviderAccessDeniedError, ProviderUnsupportedError):
            return ProviderKeyMissingError(MISSING)
        return ProviderKeyDisabledError(DELETED)

    async def _versions(self, name: str, limit: asyncio.Timeout) -> list[Version]:
        """Return the versions of a key, disabled ones too; empty: there is no such key."""
        try:
            return [version_of(i) async for page in self._pages(f"keys/{name}/versions", limit) for i in page]
        except ProviderKeyMissingError:
            return []

    async def _names(self, tags: Mapping[str, str], limit: asyncio.Timeout) -> list[str]:
        """Return the names of the keys whose newest version has these tags."""
        items = [i async for page in self._pages("keys", limit) for i in page if has_tags(tags_of(i), tags)]
        return [urlsplit(item["kid"]).path.removeprefix("/keys/").partition("/")[0] for item in items]

    async def _pages(self, path: str, limit: asyncio.Timeout) -> AsyncIterator[list[dict[str, Any]]]:
        answer = await self._call("GET", path, limit)
        while True:
            yield items_of(answer.fields)
            link = answer.fields.get("nextLink")
            if not link:
                return
            parts = urlsplit(str(link))
            # Requests carry the service's token, so they go to the vault only.
            if parts.netloc.lower() != self._host or parts.path.strip("/") != path:
                raise ProviderUnavailableError("the next page of a list of Key Vault is not in the vault")
            query = "&".join(p for p in parts.query.split("&") if not p.startswith("api-version="))
            answer = await self._call("GET", path, limit, query="&" + query)


@asynccontextmanager
async def _limited(seconds: float) -> AsyncIterator[asyncio.Timeout]:
    """Limit the time like `asyncio.timeout`, and raise our error."""
    try:
        async with asyncio.timeout(seconds) as limit:
            yield limit
    except TimeoutError:
        raise ProviderTimeoutError("Key Vault did not answer before the deadline") from None
