"""The operations of the keys API (Key Vault REST reference, "Keys")."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from . import signing
from .errors import bad_parameter, conflict, forbidden, not_found
from .faults import FaultKind, Plan
from .keys import DeletedKey, KeyStore, KeyVersion
from .reading import attributes, key_parameters, name_of, tags, value_of
from .specs import ALGORITHMS, EC_ALGORITHMS, MAC_ALGORITHMS, OPERATIONS, RSA_ALGORITHMS, KeyType, hash_of

T = TypeVar("T")

Answer = dict[str, Any]
_MAX_PAGE: Final = 25


@dataclass(frozen=True, slots=True)
class Vault:
    """What the operations know of the vault.

    Attributes:
        keys: Its keys.
        managed_hsm: Whether it is a Managed HSM, which keeps every key in an HSM and has keys for HMAC.
        purge_protection: Whether a soft-deleted key can be purged only by waiting.
    """

    keys: KeyStore
    managed_hsm: bool
    purge_protection: bool

    @property
    def recovery(self) -> dict[str, Any]:
        """The attributes that tell how a deleted key can be recovered."""
        level = "Recoverable" if self.purge_protection else "Recoverable+Purgeable"
        return {"recoveryLevel": level, "recoverableDays": self.keys.recoverable_days}


@dataclass(frozen=True, slots=True)
class Call:
    """One request.

    Attributes:
        vault: The vault.
        base: Scheme and host, as the client named them; kids begin with it.
        name: The key's name in the path; empty: the path has none.
        version: The version in the path; empty: the newest.
        query: The query.
        body: The body.
        plan: What the faults do to it.
    """

    vault: Vault
    base: str
    name: str
    version: str
    query: Mapping[str, str]
    body: bytes
    plan: Plan

    def fields(self) -> dict[str, Any]:
        """Return the body as a JSON object.

        Raises:
            AzureError: It is anything else.
        """
        try:
            value = json.loads(self.body or b"{}")
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise bad_parameter("The request body is not a JSON object.")
        return value

    def kid(self, key: KeyVersion) -> str:
        """Return the identifier of a version."""
        return f"{self.base}/keys/{key.name}/{key.version}"

    def bundle(self, key: KeyVersion) -> Answer:
        """Return a version as the API describes it."""
        return {
            "key": key.jwk(self.kid(key)),
            "attributes": key.attributes(self.vault.recovery),
            "tags": dict(key.tags),
        }

    def item(self, key: KeyVersion, kid: str) -> Answer:
        """Return a version as lists describe it."""
        return {"kid": kid, "attributes": key.attributes(self.vault.recovery), "tags": dict(key.tags)}


async def create_key(call: Call) -> Answer:
    """Create a key, or a new version of one that exists already."""
    fields = call.fields()
    parameters = key_parameters(fields, managed_hsm=call.vault.managed_hsm)
    now = int(call.vault.keys.clock.now())
    if call.vault.keys.deleted(call.name) is None:
        material = await _work(
            lambda: signing.generate(parameters.kind.family, size=parameters.size, curve=parameters.curve)
        )
    else:
        material = b""  # `add` refuses the name.
    version = KeyVersion(
        name=name_of(call.name),
        kind=parameters.kind,
        material=material,
        curve=parameters.curve if parameters.kind.family == "EC" else None,
        operations=parameters.operations,
        created=now,
        updated=now,
        tags=tags(fields) or {},
        visible=now + call.plan.hidden if call.plan.hidden else 0.0,
    )
    attributes(version, fields)
    call.vault.keys.add(version)
    return call.bundle(version)


async def rotate_key(call: Call) -> Answer:
    """Create a new version like the newest one."""
    old = call.vault.keys.find(call.name, None)
    now = int(call.vault.keys.clock.now())
    material = await _work(lambda: signing.like(old.material))
    new = KeyVersion(
        name=old.name,
        kind=old.kind,
        material=material,
        curve=old.curve,
        operations=old.operations,
        created=now,
        updated=now,
        tags=dict(old.tags),
    )
    call.vault.keys.add(new)
    return call.bundle(new)


async def get_key(call: Call) -> Answer:
    """Return a version's public half, attributes and tags. Refused for a disabled one."""
    key = call.vault.keys.find(call.name, call.version)
    _require_enabled(key, "get")
    key, kid = await _answering(call, key)
    answer = call.bundle(key)
    answer["key"]["kid"] = kid
    return answer


async def list_keys(call: Call) -> Answer:
    """List the keys, each with the attributes and tags of its newest version."""
    newest = [versions[-1] for versions in call.vault.keys if call.vault.keys.versions(versions[-1].name)]
    return _page(call, [call.item(key, f"{call.base}/keys/{key.name}") for key in newest], f"{call.base}/keys")


async def list_versions(call: Call) -> Answer:
    """List the versions of a key. The list of a key that does not exist is empty."""
    items = [call.item(key, call.kid(key)) for key in call.vault.keys.versions(call.name)]
    return _page(call, items, f"{call.base}/keys/{call.name}/versions")


async def update_key(call: Call) -> Answer:
    """Change a version's attributes, operations or tags."""
    key = call.vault.keys.find(call.name, call.version)
    fields = call.fields()
    attributes(key, fields)
    operations = fields.get("key_ops")
    if operations is not None:
        if not isinstance(operations, list) or not set(operations) <= OPERATIONS:
            raise bad_parameter("Property key_ops has an invalid value.")
        key.operations = tuple(operations)
    given = tags(fields)
    if given is not None:
        key.tags = given
    key.updated = int(call.vault.keys.clock.now())
    return call.bundle(key)


async def delete_key(call: Call) -> Answer:
    """Soft-delete a key with all of its versions."""
    return _deleted(call, call.vault.keys.delete(call.name))


async def get_deleted_key(call: Call) -> Answer:
    """Return a soft-deleted key."""
    return _deleted(call, _gone(call))


async def list_deleted_keys(call: Call) -> Answer:
    """List the soft-deleted keys."""
    items = []
    for gone in call.vault.keys.all_deleted():
        item = _deleted(call, gone)
        item["kid"] = f"{call.base}/keys/{gone.name}"
        del item["key"]
        items.append(item)
    return _page(call, items, f"{call.base}/deletedkeys")


async def purge_key(call: Call) -> Answer:
    """Remove a soft-deleted key for good; refused under purge protection."""
    _gone(call)
    if call.vault.purge_protection:
        raise forbidden("Operation purge is not allowed while purge protection is enabled.", "PurgeProtectionEnabled")
    call.vault.keys.purge(call.name)
    return {}


async def recover_key(call: Call) -> Answer:
    """Bring a soft-deleted key back."""
    if call.vault.keys.versions(call.name):
        raise conflict(f"Key {call.name} is not deleted.", "ObjectIsNotDeleted")
    return call.bundle(call.vault.keys.recover(call.name))


async def sign(call: Call) -> Answer:
    """Sign a digest; with an `oct-HSM` key, compute the HMAC of the value."""
    key, algorithm, value = _signing(call, "sign")
    key, kid = await _answering(call, key)
    material = key.material
    if call.plan.tampering is FaultKind.WRONG_SIGNATURE:
        original = key.material
        material = await _work(lambda: signing.like(original))
    chosen = material
    signature = await _work(lambda: signing.sign(chosen, algorithm, value))
    if call.plan.tampering is FaultKind.TRUNCATED_SIGNATURE:
        signature = signature[:-1]
    elif call.plan.tampering is FaultKind.CORRUPTED_SIGNATURE:
        signature = signature[:-1] + bytes([signature[-1] ^ 1])
    return {"kid": kid, "value": signing.encode(signature)}


async def verify(call: Call) -> Answer:
    """Verify a signature over a digest."""
    key, algorithm, digest = _signing(call, "verify", member="digest")
    signature = value_of(call.fields(), "value")
    return {"value": await _work(lambda: signing.verify(key.material, algorithm, digest, signature))}


Handler = Callable[[Call], Coroutine[Any, Any, Answer]]

ROUTES: Final[Mapping[tuple[str, str], tuple[str, Handler]]] = {
    ("POST", "/keys/{name}/create"): ("CreateKey", create_key),
    ("POST", "/keys/{name}/rotate"): ("RotateKey", rotate_key),
    ("GET", "/keys"): ("GetKeys", list_keys),
    ("GET", "/keys/{name}/versions"): ("GetKeyVersions", list_versions),
    ("GET", "/keys/{name}"): ("GetKey", get_key),
    ("GET", "/keys/{name}/{version:[^/]*}"): ("GetKey", get_key),
    ("PATCH", "/keys/{name}"): ("UpdateKey", update_key),
    ("PATCH", "/keys/{name}/{version:[^/]*}"): ("UpdateKey", update_key),
    ("DELETE", "/keys/{name}"): ("DeleteKey", delete_key),
    ("POST", "/keys/{name}/{version:[^/]*}/sign"): ("Sign", sign),
    ("POST", "/keys/{name}/{version:[^/]*}/verify"): ("Verify", verify),
    ("GET", "/deletedkeys"): ("GetDeletedKeys", list_deleted_keys),
    ("GET", "/deletedkeys/{name}"): ("GetDeletedKey", get_deleted_key),
    ("DELETE", "/deletedkeys/{name}"): ("PurgeDeletedKey", purge_key),
    ("POST", "/deletedkeys/{name}/recover"): ("RecoverDeletedKey", recover_key),
}
"""Operations by method and path."""


def _signing(call: Call, operation: str, member: str = "value") -> tuple[KeyVersion, str, bytes]:
    fields = call.fields()
    algorithm = fields.get("alg")
    if algorithm not in ALGORITHMS:
        raise bad_parameter("Property alg has an invalid value.")
    value = value_of(fields, member)
    key = call.vault.keys.find(call.name, call.version)
    _require_enabled(key, operation)
    now = call.vault.keys.clock.now()
    # Key Vault, "About keys", date-time controlled operations: verify goes on outside these limits.
    if operation == "sign" and key.not_before is not None and now < key.not_before:
        raise forbidden("Operation sign is not allowed on a key that is not yet valid.", "KeyNotYetValid")
    if operation == "sign" and key.expires is not None and now >= key.expires:
        raise forbidden("Operation sign is not allowed on an expired key.", "KeyExpired")
    if operation not in key.operations:
        raise forbidden(f"Operation {operation} is not permitted on this key.", "KeyOperationForbidden")
    if not _fits(key, algorithm):
        raise bad_parameter(f"Key and signing algorithm are incompatible. Key {key.kind} does not support {algorithm}.")
    if algorithm not in MAC_ALGORITHMS and len(value) != hash_of(algorithm).digest_size:
        raise bad_parameter(
            f"Invalid length of 'value': {len(value)} bytes. {algorithm} needs {hash_of(algorithm).digest_size}."
        )
    return key, algorithm, value


def _fits(key: KeyVersion, algorithm: str) -> bool:
    if key.kind.family == "RSA":
        return algorithm in RSA_ALGORITHMS
    if key.kind.family == "EC":
        return EC_ALGORITHMS.get(algorithm) == key.curve
    return key.kind is KeyType.OCT_HSM and algorithm in MAC_ALGORITHMS


def _require_enabled(key: KeyVersion, operation: str) -> None:
    if not key.enabled:
        raise forbidden(f"Operation {operation} is not allowed on a disabled key.", "KeyDisabled")


async def _answering(call: Call, key: KeyVersion) -> tuple[KeyVersion, str]:
    """Return the version that answers, and the kid that the answer names: the key's own, unless a test wants others."""
    if call.plan.tampering is FaultKind.OTHER_NAME:
        return key, f"{call.base}/keys/{key.name}/{'0' * 32}"
    if call.plan.tampering is FaultKind.OTHER_KEY:
        material = await _work(lambda: signing.like(key.material))
        other = KeyVersion(
            name=key.name,
            kind=key.kind,
            material=material,
            curve=key.curve,
            operations=key.operations,
            created=key.created,
            updated=key.updated,
        )
        return other, call.kid(other)
    return key, call.kid(key)


def _gone(call: Call) -> DeletedKey:
    gone = call.vault.keys.deleted(call.name)
    if gone is None:
        raise not_found(call.name)
    return gone


def _deleted(call: Call, gone: DeletedKey) -> Answer:
    return call.bundle(gone.versions[-1]) | {
        "recoveryId": f"{call.base}/deletedkeys/{gone.name}",
        "deletedDate": gone.deleted,
        "scheduledPurgeDate": gone.purged,
    }


def _page(call: Call, items: list[Answer], path: str) -> Answer:
    try:
        size = min(_MAX_PAGE, int(call.query.get("maxresults", _MAX_PAGE)))
        start = int(call.query.get("$skiptoken", "0"))
    except ValueError:
        raise bad_parameter("The query is not valid.") from None
    more = start + size < len(items)
    version = call.query.get("api-version", "")
    link = f"{path}?api-version={version}&$skiptoken={start + size}&maxresults={size}" if more else None
    return {"value": items[start : start + size], "nextLink": link}


async def _work(work: Callable[[], T]) -> T:
    # Milliseconds of RSA would keep every other client waiting.
    return await asyncio.to_thread(work)
