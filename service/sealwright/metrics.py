"""Every metric, for Prometheus: counters and histograms of all workers together, and gauges of the worker that is asked.

Labels have closed sets of values: names from the configuration, names of RPCs and KMS operations, and reasons of errors. With
several workers each one keeps its numbers in files of a shared directory (`metrics_files.py`), and the worker that is asked adds
them up. `docs/metrics.md` describes each metric; a test compares the page with this module.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, multiprocess
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from sealwright import metrics_files

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
metrics_files.begin()

log = logging.getLogger(__name__)

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_FLUSH_SECONDS: Final = 0.05
_BYTES: Final = (256, 512, 1024, 2048, 3072, 4096, 6144, 7168, 8192, 16384, 65536)

_REGISTRY: Final = CollectorRegistry(auto_describe=True)


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, registry=_REGISTRY)


def _histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
    return Histogram(name, text, labels, buckets=buckets, registry=_REGISTRY)


RPCS: Final = _counter(
    "sealwright_rpcs", "RPCs by method, status code and reason of the error.", "method", "code", "reason"
)
RPC_SECONDS: Final = _histogram("sealwright_rpc_seconds", "Time from the arrival of an RPC to its answer.", "method")
KMS_CALLS: Final = _counter(
    "sealwright_kms_calls",
    "Calls to a KMS or HSM by provider, operation and outcome: ok, or the reason of the error.",
    "provider",
    "operation",
    "outcome",
)
KMS_SECONDS: Final = _histogram(
    "sealwright_kms_seconds",
    "Time of a call to a KMS or HSM, without the wait for a place.",
    "provider",
    "operation",
)
TOKENS: Final = _counter("sealwright_tokens", "Released tokens by issuer and kid.", "issuer", "kid")
TOKEN_BYTES: Final = _histogram("sealwright_token_bytes", "Length of released tokens.", "issuer", buckets=_BYTES)
SIGNATURES_REJECTED: Final = _counter(
    "sealwright_signatures_rejected",
    "Answers of a KMS that were not a signature by the published key. Each one is an alarm.",
    "provider",
)
KEY_ALARMS: Final = _counter(
    "sealwright_key_alarms",
    "Intents whose tags are on several keys, or on a key that the service did not create. Each one is an alarm.",
    "provider",
)
REFUSALS_OMITTED: Final = _counter(
    "sealwright_refusals_omitted",
    "Refused calls without an audit record of their own, because their caller had too many.",
)
HTTP_ERRORS: Final = _counter("sealwright_http_errors", "Malformed HTTP requests by listener.", "listener")
CONNECTIONS_SHED: Final = _counter(
    "sealwright_connections_shed",
    "Connections that a listener closed or refused to protect itself, by listener and reason.",
    "listener",
    "reason",
)
AUDIT_FAILURES: Final = _counter(
    "sealwright_audit_failures", "Audit records that could not be made durable. What they describe did not happen."
)


class _Collecting:
    """What was counted since the last flush. Many steps at once cost the library as much as one: a lock and a file."""

    def __init__(self) -> None:
        self._parts: list[Tally | Distribution] = []
        self._due = False

    def changed(self, part: Tally | Distribution) -> None:
        """Note that a part has something to hand over. It is handed over in a moment, so that other workers see it too."""
        self._parts.append(part)
        if self._due:
            return
        try:
            asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.flush)
        except RuntimeError:  # There is no event loop.
            return
        self._due = True

    def flush(self) -> None:
        """Hand over what was counted."""
        self._due = False
        parts, self._parts = self._parts, []
        for part in parts:
            # The files of the metrics may be gone. That must not stop anything.
            with contextlib.suppress(OSError):
                part.flush()


_COLLECTING: Final = _Collecting()


class Tally:
    """A counter with its labels. It counts in memory, and hands over soon."""

    __slots__ = ("_child", "_count")

    def __init__(self, child: Counter) -> None:
        self._child = child
        self._count = 0

    def add(self) -> None:
        """Count one."""
        if not self._count:
            _COLLECTING.changed(self)
        self._count += 1

    def flush(self) -> None:
        """Hand over what was counted."""
        count, self._count = self._count, 0
        self._child.inc(count)


class Distribution:
    """A histogram with its labels. It collects in memory like `Tally`."""

    __slots__ = ("_bounds", "_child", "_counts", "_empty", "_sum")

    def __init__(self, child: Histogram) -> None:
        self._child = child
        self._bounds: Sequence[float] = child._upper_bounds  # noqa: SLF001 - the library has no way to observe many values at once
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        self._empty = True

    def add(self, value: float) -> None:
        """Collect a value."""
        if self._empty:
            self._empty = False
            _COLLECTING.changed(self)
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def flush(self) -> None:
        """Hand over what was collected."""
        total, self._sum = self._sum, 0.0
        counts, self._counts = self._counts, [0] * len(self._bounds)
        self._empty = True
        self._child._sum.inc(total)  # noqa: SLF001 - see above
        for bucket, count in zip(self._child._buckets, counts, strict=True):  # noqa: SLF001 - see above
            if count:
                bucket.inc(count)


@cache
def tally(metric: Counter, *labels: str) -> Tally:
    """Return a counter for some labels. Labels have closed sets of values, so the cache is bounded."""
    return Tally(metric.labels(*labels) if labels else metric)


@cache
def distribution(metric: Histogram, *labels: str) -> Distribution:
    """Return a histogram for some labels, like `tally`."""
    return Distribution(metric.labels(*labels))


RPC_SECONDS.labels("SignJwt")  # opens the file of the histograms now, and not at the first call


@dataclass(frozen=True, slots=True)
class Gauge:
    """A metric that is read when it is asked for.

    Attributes:
        name: Its name.
        text: Its help text.
        labels: Names of its labels.
    """

    name: str
    text: str
    labels: tuple[str, ...] = ()


ISSUER_CAN_SIGN: Final = Gauge("sealwright_issuer_can_sign", "1 while the issuer can sign, else 0.", ("issuer",))
PROVIDER_UP: Final = Gauge("sealwright_provider_up", "1 while the provider answers, else 0.", ("provider",))
REVOKED_NOT_DISABLED: Final = Gauge(
    "sealwright_revoked_keys_not_disabled", "Revoked keys that could not be disabled in the KMS so far.", ("provider",)
)
STORE_AGE: Final = Gauge("sealwright_store_age_seconds", "Time since the start of the last read of the store.")
KEYS: Final = Gauge("sealwright_keys", "Keys by issuer, series and state.", ("issuer", "series", "state"))
ACTIVE_KEY_AGE: Final = Gauge(
    "sealwright_active_key_age_seconds", "Time since the active key of a series took over.", ("issuer", "series")
)
CERTIFICATE_EXPIRY: Final = Gauge(
    "sealwright_tls_certificate_expiry_seconds",
    "Time until the certificate of a listener expires; negative after that.",
    ("listener",),
)
GAUGES: Final = (
    ISSUER_CAN_SIGN,
    PROVIDER_UP,
    REVOKED_NOT_DISABLED,
    STORE_AGE,
    KEYS,
    ACTIVE_KEY_AGE,
    CERTIFICATE_EXPIRY,
)

Reading = tuple[Gauge, Iterable[tuple[tuple[str, ...], float]]]
"""A gauge, and its values by labels."""


class _Readings(Collector):
    def __init__(self, read: Callable[[], Iterable[Reading]]) -> None:
        self._read = read

    def collect(self) -> Iterable[GaugeMetricFamily]:
        for gauge, values in self._read():
            family = GaugeMetricFamily(gauge.name, gauge.text, labels=gauge.labels)
            for labels, value in values:
                family.add_metric(labels, value)
            yield family


def exposition(read: Callable[[], Iterable[Reading]]) -> bytes:
    """Return all metrics in Prometheus's text format.

    Args:
        read: Reads the gauges of this worker.
    """
    _COLLECTING.flush()
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Readings(read))
    own = generate_latest(registry)
    return _counted() + own


def _counted() -> bytes:
    """Return the counters and histograms of all workers; those of this one where the others' cannot be had."""
    tend()
    shared = metrics_files.directory()
    if shared is not None:
        try:
            with metrics_files.locked(shared, fcntl.LOCK_SH):
                together = CollectorRegistry(auto_describe=False)
                multiprocess.MultiProcessCollector(together, str(shared))  # type: ignore[no-untyped-call]
                return generate_latest(together)
        except Exception:
            log.exception("the metrics of all workers cannot be added up")
    return generate_latest(_REGISTRY)


def tend() -> None:
    """Make the files of this worker again if they were deleted."""
    if metrics_files.remake():
        with contextlib.suppress(OSError):
            REFUSALS_OMITTED.inc(0)  # opens them


def described() -> list[tuple[str, str, tuple[str, ...], str]]:
    """Return name, type, labels and help text of every metric, under the names that Prometheus sees, for the documentation."""
    counted = [
        (f"{m._name}_total" if m._type == "counter" else m._name, m._type, tuple(m._labelnames), m._documentation)  # noqa: SLF001
        for m in (value for value in globals().values() if isinstance(value, Counter | Histogram))
    ]
    return counted + [(g.name, "gauge", g.labels, g.text) for g in GAUGES]
