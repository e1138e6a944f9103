"""The keys of AWS KMS: material, state, tags, description."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from .errors import AwsError, invalid_state
from .specs import KeySpec, KeyState, KeyUsage, algorithms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .signing import Material

SECONDS_PER_DAY: Final = 86_400

_REFUSING_STATES: Final[Mapping[KeyState, str]] = {
    KeyState.PENDING_DELETION: "is pending deletion",
    KeyState.CREATING: "is creating",
    KeyState.UNAVAILABLE: "is unavailable",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySummary:
    """What a test can read about a key without a signed request.

    Attributes:
        key_id: the key's id (a UUID, or `mrk-` and 32 hexadecimal digits).
        arn: the key's ARN.
        spec: its key spec.
        usage: its key usage.
        state: its state.
        description: as given to CreateKey or UpdateKeyDescription.
        tags: a copy of its tags.
        aliases: the names of its aliases, sorted.
        creation_time: seconds since the epoch, by the emulator's clock.
        deletion_time: the same, if its deletion is scheduled.
    """

    key_id: str
    arn: str
    spec: KeySpec
    usage: KeyUsage
    state: KeyState
    description: str
    tags: Mapping[str, str]
    aliases: tuple[str, ...]
    creation_time: float
    deletion_time: float | None


@dataclass(slots=True, kw_only=True, eq=False)
class KmsKey:
    """One KMS key. The store owns it; operations change its state, tags and description in place."""

    key_id: str
    arn: str
    account: str
    region: str
    spec: KeySpec
    usage: KeyUsage
    material: Material = field(repr=False)
    creation_time: float
    description: str = ""
    multi_region: bool = False
    policy: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    state: KeyState = KeyState.ENABLED
    deletion_time: float | None = None
    origin: str = "AWS_KMS"
    hidden_until: float = 0.0
    hidden_from: str = "*"

    def hidden(self, operation: str, now: float) -> bool:
        """Return whether an operation must not see the key yet: AWS KMS is eventually consistent."""
        return now < self.hidden_until and self.hidden_from in {"*", operation}

    def check_usable(self) -> None:
        """Raise the error of a cryptographic operation or GetPublicKey if the state forbids it.

        AWS KMS Developer Guide, "Key states", footnotes 1 and 3. For a key that is pending deletion the guide
        allows DisabledException too, but the service was seen to return KMSInvalidStateException.
        """
        if self.state is KeyState.DISABLED:
            raise AwsError("DisabledException", f"{self.arn} is disabled.")
        if self.state in _REFUSING_STATES:
            raise invalid_state(self.arn, _REFUSING_STATES[self.state])

    def check_manageable(self) -> None:
        """Raise the error of an operation that changes the key if the state forbids it."""
        if self.state in {KeyState.PENDING_DELETION, KeyState.CREATING}:
            raise invalid_state(self.arn, _REFUSING_STATES[self.state])

    def schedule_deletion(self, days: int, now: float) -> None:
        """Start the waiting period of 7 to 30 days, after which the key is deleted."""
        self.check_manageable()
        self.state = KeyState.PENDING_DELETION
        self.deletion_time = now + days * SECONDS_PER_DAY

    def cancel_deletion(self) -> None:
        """End the waiting period. The key is then disabled, also if it was enabled before."""
        if self.state is not KeyState.PENDING_DELETION:
            raise invalid_state(self.arn, "is not pending deletion")
        self.state = KeyState.DISABLED
        self.deletion_time = None

    def metadata(self) -> dict[str, Any]:
        """Return the KeyMetadata of CreateKey and DescribeKey. AWS KMS API Reference, KeyMetadata."""
        values: dict[str, Any] = {
            "AWSAccountId": self.account,
            "KeyId": self.key_id,
            "Arn": self.arn,
            "CreationDate": round(self.creation_time, 3),
            "Enabled": self.state is KeyState.ENABLED,
            "Description": self.description,
            "KeyUsage": self.usage,
            "KeyState": self.state,
            "Origin": self.origin,
            "KeyManager": "CUSTOMER",
            "CustomerMasterKeySpec": self.spec,
            "KeySpec": self.spec,
            "MultiRegion": self.multi_region,
            **algorithms(self.spec, self.usage),
        }
        if self.deletion_time is not None:
            values["DeletionDate"] = round(self.deletion_time, 3)
        if self.multi_region:
            primary = {"Arn": self.arn, "Region": self.region}
            values["MultiRegionConfiguration"] = {
                "MultiRegionKeyType": "PRIMARY",
                "PrimaryKey": primary,
                "ReplicaKeys": [],
            }
        return values
