"""Metrics, for Prometheus: one set for all workers together.

Labels have closed sets of values: names from the configuration, names of RPCs and KMS operations, and reasons of errors. With
several workers each keeps its numbers in a file of a directory that they share (`PROMETHEUS_MULTIPROC_DIR`, set by the
supervisor), and whichever worker is asked adds them up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, multiprocess
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
MULTIPROCESS_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BYTES: Final = (256, 512, 1024, 2048, 3072, 4096, 6144, 7168, 8192, 16384, 65536)

_REGISTRY: Final = CollectorRegistry(auto_describe=True)

RPCS: Final = Counter(
    "sealwright_rpcs",
    "RPCs by method, status code and reason of the error.",
    ("method", "code", "reason"),
    registry=_REGISTRY,
)
RPC_SECONDS: Final = Histogram(
    "sealwright_rpc_seconds",
    "Time from the arrival of an RPC to its answer.",
    ("method",),
    buckets=_SECONDS,
    registry=_REGISTRY,
)
KMS_CALLS: Final = Counter(
    "sealwright_kms_calls",
    "Calls to a KMS or HSM by provider, operation and outcome: ok, or the reason of the error.",
    ("provider", "operation", "outcome"),
    registry=_REGISTRY,
)
KMS_SECONDS: Final = Histogram(
    "sealwright_kms_seconds",
    "Time of a call to a KMS or HSM, without waiting for its turn.",
    ("provider", "operation"),
    buckets=_SECONDS,
    registry=_REGISTRY,
)
TOKENS: Final = Counter(
    "sealwright_tokens",
    "Tokens that left, by issuer and kid.",
    ("issuer", "kid"),
    registry=_REGISTRY,
)
TOKEN_BYTES: Final = Histogram(
    "sealwright_token_bytes",
    "Length of the tokens that left.",
    ("issuer",),
    buckets=_BYTES,
    registry=_REGISTRY,
)
SIGNATURES_REJECTED: Final = Counter(
    "sealwright_signatures_rejected",
    "Answers of a KMS that were no signature by the published key: each is an alarm.",
    ("provider",),
    registry=_REGISTRY,
)
AUDIT_FAILURES: Final = Counter(
    "sealwright_audit_failures",
    "Audit records that could not be made durable; what they were about did not happen.",
    registry=_REGISTRY,
)

Family = tuple[str, str, tuple[str, ...], Iterable[tuple[tuple[str, ...], float]]]
"""A gauge that is read when it is asked for: name, help, names of labels, and values by labels."""


class _Gauges(Collector):
    def __init__(self, read: Callable[[], Iterable[Family]]) -> None:
        self._read = read

    def collect(self) -> Iterable[GaugeMetricFamily]:
        for name, text, labels, values in self._read():
            family = GaugeMetricFamily(name, text, labels=labels)
            for label_values, value in values:
                family.add_metric(label_values, value)
            yield family


def exposition(gauges: Callable[[], Iterable[Family]]) -> bytes:
    """Return all metrics in Prometheus's text format.

    Args:
        gauges: Reads what the worker that is asked sees now.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Gauges(gauges))
    own = generate_latest(registry)
    if os.environ.get(MULTIPROCESS_VARIABLE):
        together = CollectorRegistry(auto_describe=False)
        multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together) + own
    return generate_latest(_REGISTRY) + own
