"""Key rings, keys and versions, and the clock that they live by."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from google.cloud.kms_v1.types import resources
from google.protobuf.timestamp_pb2 import Timestamp

from .errors import KmsError, not_found
from .names import crypto_key_of, ring_of
from .specs import SPECS, Spec

WAITING_SECONDS: Final = 30 * 86400
"""Default `destroy_scheduled_duration`."""

_KeyRing: Final[Any] = resources.KeyRing.pb()
_CryptoKey: Final[Any] = resources.CryptoKey.pb()
_Version: Final[Any] = resources.CryptoKeyVersion.pb()


class Clock:
    """The wall clock, and what tests add to it."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        """Move it forward."""
        self._ahead += seconds


def timestamp(seconds: float) -> Timestamp:
    """Return a protobuf Timestamp, in whole microseconds as Cloud KMS has them."""
    value = Timestamp()
    value.FromMicroseconds(round(seconds * 1e6))
    return value


@dataclass(slots=True, kw_only=True)
class Version:
    """A CryptoKeyVersion.

    Attributes:
        name: Resource name.
        algorithm: CryptoKeyVersionAlgorithm.
        protection: ProtectionLevel.
        material: The key.
        create_time: When it was created, in seconds.
        generate_time: When it becomes usable.
        set_state: The state that was last set.
        destroy_time: When its material is destroyed, if that is scheduled.
        import_job: Name of the job that imported its material; empty: Cloud KMS generated it.
    """

    name: str
    algorithm: str
    protection: str
    material: Any = field(repr=False)
    create_time: float
    generate_time: float
    set_state: str = "ENABLED"
    destroy_time: float | None = None
    import_job: str = ""

    @property
    def spec(self) -> Spec:
        """What its algorithm can do."""
        return SPECS[self.algorithm]

    def state(self, now: float) -> str:
        """Return its CryptoKeyVersionState."""
        if self.set_state == "DESTROY_SCHEDULED" and self.destroy_time is not None and now >= self.destroy_time:
            return "DESTROYED"
        if self.set_state == "ENABLED" and now < self.generate_time:
            return "PENDING_GENERATION"
        return self.set_state

    def message(self, now: float, *, new: bool = False) -> Any:
        """Return the protobuf message; `new`: as the answer to its creation."""
        state = self.state(now)
        if new and self.spec.purpose == "ASYMMETRIC_SIGN" and state == "ENABLED":
            state = "PENDING_GENERATION"
        made = _Version(
            name=self.name,
            state=state,
            algorithm=self.algorithm,
            protection_level=self.protection,
            create_time=timestamp(self.create_time),
        )
        if state not in {"PENDING_GENERATION", "GENERATION_FAILED"}:
            made.generate_time.CopyFrom(timestamp(self.generate_time))
        if self.destroy_time is not None:
            made.destroy_time.CopyFrom(timestamp(self.destroy_time))
        if self.import_job:
            made.import_job = self.import_job
            made.import_time.CopyFrom(timestamp(self.generate_time))
        return made


@dataclass(slots=True, kw_only=True)
class Key:
    """A CryptoKey.

    Attributes:
        name: Resource name.
        purpose: CryptoKeyPurpose.
        algorithm: Of versions that are created from now on.
        protection: ProtectionLevel of its versions.
        labels: Its labels.
        create_time: When it was created, in seconds.
        visible_time: Before that, it answers NOT_FOUND.
        waiting: Seconds between scheduling the destruction of a version and its destruction.
        versions: By name.
    """

    name: str
    purpose: str
    algorithm: str
    protection: str
    labels: dict[str, str]
    create_time: float
    visible_time: float
    waiting: float = WAITING_SECONDS
    versions: dict[str, Version] = field(default_factory=dict)

    def message(self) -> Any:
        """Return the protobuf message."""
        made = _CryptoKey(
            name=self.name,
            purpose=self.purpose,
            create_time=timestamp(self.create_time),
            version_template={"algorithm": self.algorithm, "protection_level": self.protection},
            labels=self.labels,
        )
        made.destroy_scheduled_duration.FromSeconds(round(self.waiting))
        return made


class KeyStore:
    """Everything in the emulator. Callers hold `lock`."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.lock = threading.RLock()
        self.rings: dict[str, float] = {}
        self.keys: dict[str, Key] = {}

    def ring(self, name: str) -> Any:
        """Return a key ring as its protobuf message.

        Raises:
            KmsError: NOT_FOUND.
        """
        if name not in self.rings:
            raise not_found(name)
        return _KeyRing(name=name, create_time=timestamp(self.rings[name]))

    def add_ring(self, name: str) -> Any:
        """Create a key ring.

        Raises:
            KmsError: ALREADY_EXISTS.
        """
        if name in self.rings:
            raise KmsError(grpc.StatusCode.ALREADY_EXISTS, f"KeyRing {name} already exists.")
        self.rings[name] = self.clock.now()
        return self.ring(name)

    def key(self, name: str) -> Key:
        """Return a CryptoKey.

        Raises:
            KmsError: NOT_FOUND.
        """
        key = self.keys.get(name)
        if key is None or self.clock.now() < key.visible_time:
            raise not_found(name)
        return key

    def version(self, name: str) -> Version:
        """Return a version.

        Raises:
            KmsError: NOT_FOUND.
        """
        found = self.key(crypto_key_of(name)).versions.get(name)
        if found is None:
            raise not_found(name)
        return found

    def keys_of(self, ring: str) -> list[Key]:
        """Return the visible keys of a key ring, by name."""
        self.ring(ring)
        now = self.clock.now()
        found = (k for k in self.keys.values() if ring_of(k.name) == ring and now >= k.visible_time)
        return sorted(found, key=lambda k: k.name)

    def add_version(self, key: Key, material: Any, *, pending_seconds: float, failed: bool) -> Version:
        """Add a version to a key, with material that was made for its algorithm."""
        now = self.clock.now()
        name = f"{key.name}/cryptoKeyVersions/{len(key.versions) + 1}"
        version = Version(
            name=name,
            algorithm=key.algorithm,
            protection=key.protection,
            material=material,
            create_time=now,
            generate_time=now + pending_seconds,
            set_state="GENERATION_FAILED" if failed else "ENABLED",
        )
        key.versions[name] = version
        return version
