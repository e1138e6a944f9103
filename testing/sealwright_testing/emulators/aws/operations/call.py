"""The input of every operation: its parameters, the keys, and the faults that a test requested."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sealwright_testing.emulators.aws import signing
from sealwright_testing.emulators.aws.errors import AwsError

if TYPE_CHECKING:
    from sealwright_testing.emulators.aws.faults import Fault, FaultKind
    from sealwright_testing.emulators.aws.keys import KmsKey
    from sealwright_testing.emulators.aws.params import Params
    from sealwright_testing.emulators.aws.specs import KeySpec
    from sealwright_testing.emulators.aws.store import KeyStore

Answer = dict[str, Any]
Handler = Callable[["Call"], Awaitable[Answer]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One authenticated request with a JSON object as its body.

    Attributes:
        operation: its name, such as `Sign`.
        params: its parameters.
        store: the keys and aliases.
        strangers: keys outside the store, by spec, for signatures that must not verify.
        tampering: how to change the signature.
        hide: the fault that hides the key that this call creates.
    """

    operation: str
    params: Params
    store: KeyStore
    strangers: Strangers
    tampering: FaultKind | None = None
    hide: Fault | None = None

    def key(self, *, allow_alias: bool = False, name: str = "KeyId") -> KmsKey:
        """Return the key that a parameter names.

        Raises:
            AwsError: as in KeyStore.resolve, or ValidationException if the parameter is absent.
        """
        return self.store.resolve(self.params.required_text(name), self.operation, allow_alias=allow_alias)

    def page(
        self, items: Sequence[T], marker_of: Callable[[T], str], *, limit: int, most: int
    ) -> tuple[list[T], Answer]:
        """Return one page of `items`, with its Truncated and NextMarker.

        Args:
            items: all of them, in a fixed order.
            marker_of: returns a name of an item that stays valid while other items are added or removed.
            limit: the size of a page if the request has no Limit.
            most: the largest Limit.

        Raises:
            AwsError: InvalidMarkerException for a marker that this listing did not return.
        """
        size = self.params.integer("Limit", least=1, most=most) or limit
        marker = self.params.marker()
        start = 0
        if marker is not None:
            names = [marker_of(item) for item in items]
            if marker not in names:
                raise AwsError("InvalidMarkerException", "Could not deserialize marker.")
            start = names.index(marker)
        page = list(items[start : start + size])
        if start + size >= len(items):
            return page, {"Truncated": False}
        return page, {"Truncated": True, "NextMarker": marker_of(items[start + size])}


class Strangers:
    """Keys outside the store, generated on first use."""

    def __init__(self) -> None:
        self._keys: dict[KeySpec, signing.Material] = {}

    async def of(self, spec: KeySpec) -> signing.Material:
        """Return material of a spec that no key in the store has."""
        if spec not in self._keys:
            self._keys[spec] = await asyncio.to_thread(signing.generate, spec)
        return self._keys[spec]
