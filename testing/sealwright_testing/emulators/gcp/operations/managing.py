"""Operations that create keys and change their state."""

from __future__ import annotations

import re
from typing import Any, Final

import grpc
from google.cloud.kms_v1.types import resources

from sealwright_testing.emulators.gcp.errors import KmsError, invalid, precondition
from sealwright_testing.emulators.gcp.names import checked
from sealwright_testing.emulators.gcp.specs import ENCRYPT, SPECS
from sealwright_testing.emulators.gcp.store import WAITING_SECONDS, Key, Version

from .call import Call

_Version: Final[Any] = resources.CryptoKeyVersion.pb()
_CryptoKey: Final[Any] = resources.CryptoKey.pb()
_LABEL_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE: Final = re.compile(r"[a-z0-9_-]{0,63}")
_MAX_LABELS: Final = 64
_SWITCHABLE: Final = frozenset({"ENABLED", "DISABLED"})
_WAITING: Final = range(86400, 120 * 86400 + 1)


def create_key_ring(call: Call) -> Any:
    """CreateKeyRing."""
    parent = checked("location", call.request.parent)
    return call.store.add_ring(f"{parent}/keyRings/{checked('id', call.request.key_ring_id)}")


def create_crypto_key(call: Call) -> Any:
    """CreateCryptoKey. It creates version 1 too, unless the request skips that."""
    request = call.request
    ring = checked("key ring", request.parent)
    name = f"{ring}/cryptoKeys/{checked('id', request.crypto_key_id)}"
    purpose = _CryptoKey.CryptoKeyPurpose.Name(request.crypto_key.purpose)
    if not request.crypto_key.purpose:
        raise invalid("The field crypto_key.purpose is required.")
    algorithm, protection = _template(request.crypto_key, purpose)
    labels = _labels(request.crypto_key)
    call.store.ring(ring)
    if name in call.store.keys:
        raise KmsError(grpc.StatusCode.ALREADY_EXISTS, f"CryptoKey {name} already exists.")
    now = call.store.clock.now()
    key = Key(
        name=name,
        purpose=purpose,
        algorithm=algorithm,
        protection=protection,
        labels=labels,
        create_time=now,
        visible_time=now + call.plan.hidden_seconds,
        waiting=_waiting(request.crypto_key),
    )
    if not request.skip_initial_version_creation:
        _add_version(call, key)
    call.store.keys[name] = key
    return key.message()


def update_crypto_key(call: Call) -> Any:
    """UpdateCryptoKey, of the labels."""
    if list(call.request.update_mask.paths) != ["labels"]:
        raise invalid("The emulator updates labels only.")
    key = call.store.key(checked("crypto key", call.request.crypto_key.name))
    key.labels = _labels(call.request.crypto_key)
    return key.message()


def create_version(call: Call) -> Any:
    """CreateCryptoKeyVersion."""
    key = call.store.key(checked("crypto key", call.request.parent))
    return _add_version(call, key).message(call.store.clock.now(), new=True)


def update_version(call: Call) -> Any:
    """UpdateCryptoKeyVersion, of the state: from ENABLED to DISABLED and back."""
    if not call.request.update_mask.paths:
        raise invalid("No fields are selected for the update.")
    if list(call.request.update_mask.paths) != ["state"]:
        raise invalid("The emulator updates the state only.")
    version = call.store.version(checked("crypto key version", call.request.crypto_key_version.name))
    wanted = _Version.CryptoKeyVersionState.Name(call.request.crypto_key_version.state)
    if wanted not in _SWITCHABLE:
        raise invalid(f"A version cannot be updated to {wanted}.")
    _require_state(version, call.store.clock.now())
    version.set_state = wanted
    return version.message(call.store.clock.now())


def destroy_version(call: Call) -> Any:
    """DestroyCryptoKeyVersion, from ENABLED or DISABLED."""
    version = call.store.version(checked("crypto key version", call.request.name))
    now = call.store.clock.now()
    _require_state(version, now)
    version.set_state = "DESTROY_SCHEDULED"
    version.destroy_time = now + call.store.key(version.name.rpartition("/cryptoKeyVersions/")[0]).waiting
    return version.message(now)


def restore_version(call: Call) -> Any:
    """RestoreCryptoKeyVersion, from DESTROY_SCHEDULED to DISABLED."""
    version = call.store.version(checked("crypto key version", call.request.name))
    now = call.store.clock.now()
    if version.state(now) != "DESTROY_SCHEDULED":
        raise precondition(f"{version.name} is not scheduled for destruction.")
    version.set_state, version.destroy_time = "DISABLED", None
    return version.message(now)


def _require_state(version: Version, now: float) -> None:
    state = version.state(now)
    if state not in _SWITCHABLE:
        raise precondition(f"{version.name} must be ENABLED or DISABLED; its state is {state}.")


def _add_version(call: Call, key: Key) -> Version:
    return call.store.add_version(
        key,
        SPECS[key.algorithm].generate(),
        pending_seconds=call.plan.pending_seconds,
        failed=call.plan.failed,
    )


def _template(crypto_key: Any, purpose: str) -> tuple[str, str]:
    """Return the algorithm and the protection level of a new key."""
    template = crypto_key.version_template
    algorithm = _Version.CryptoKeyVersionAlgorithm.Name(template.algorithm)
    if not template.algorithm and purpose == ENCRYPT:
        algorithm = "GOOGLE_SYMMETRIC_ENCRYPTION"
    spec = SPECS.get(algorithm)
    if spec is None or spec.purpose != purpose:
        raise invalid(f"The algorithm {algorithm} does not fit the purpose {purpose}.")
    protection = resources.ProtectionLevel(template.protection_level).name
    if not template.protection_level:
        protection = "SOFTWARE"
    if protection not in {"SOFTWARE", "HSM"}:
        raise invalid(f"The emulator has no keys with protection level {protection}.")
    if spec.hsm_only and protection != "HSM":
        raise invalid(f"The algorithm {algorithm} is only supported for the protection level HSM.")
    return algorithm, protection


def _labels(crypto_key: Any) -> dict[str, str]:
    labels = dict(crypto_key.labels)
    if len(labels) > _MAX_LABELS:
        raise invalid("A key has at most 64 labels.")
    for name, value in labels.items():
        if not _LABEL_NAME.fullmatch(name) or not _LABEL_VALUE.fullmatch(value):
            raise invalid(f"The label {name!r} or its value is not valid.")
    return labels


def _waiting(crypto_key: Any) -> float:
    if not crypto_key.HasField("destroy_scheduled_duration"):
        return float(WAITING_SECONDS)
    seconds = crypto_key.destroy_scheduled_duration.seconds
    if seconds not in _WAITING:
        raise invalid("destroy_scheduled_duration must be between 24 hours and 120 days.")
    return float(seconds)
