"""A running service: what it adds to the latency of the KMS, what JWK Sets do to it, what it costs idle, and two workers."""

from __future__ import annotations

import json
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import generator
from benchmark_load import CLAIMS
from generator import Answers, Round, Shape, Target
from running import Service, service, sign_request
from table import Results, Scale

WIDE = Shape(64, 1)
"""As many connections as calls in flight: the kernel spreads connections over workers."""
JWKS_RATE = 2000.0
WORKERS = 2


def one_worker(results: Results, scale: Scale) -> None:
    """Measure a worker with one issuer: its start, at half load, its JWK Sets, and idle."""
    # The client in Python trusts the KMS of the service that started last.
    with service("aws", "ES256") as other, service("aws", "ES256") as running:
        results.value("start_seconds", "start to ready, one issuer, keys in the store", "1.5 s", running.started, "s")
        _half_load(results, scale, running, other)
        idle = running.idle(scale.seconds * 2)
        results.value("idle_cpu_percent", "idle worker, one issuer: CPU", "", idle, "% of a core")
        results.value("idle_memory_mb", "worker with AWS only: resident memory", "120 MB", running.memory, "MB")


def _half_load(results: Results, scale: Scale, running: Service, other: Service) -> None:
    """Measure at half of what 64 calls in flight reach; the bare call, the service, and with JWK Sets, in turns.

    With JWK Sets of another service, too: its load takes as much of the machine, and nothing of the worker.
    """
    request = sign_request("ES256")
    full = statistics.median(generator.sign(running, request, scale.seconds).rate for _ in range(scale.rounds))
    half, kms = full / 2, generator.bare_sign(running.kms.ready, running.uris["ES256"])
    pages = [generator.pages(running.jwks_url, 0.5)]
    bare: list[Answers] = []
    ours: list[Round] = []
    beside: list[Round] = []
    apart: list[Round] = []
    for _ in range(scale.rounds):
        bare.append(generator.ask(kms, scale.seconds, half))
        ours.append(generator.sign(running, request, scale.seconds, Shape(rate=half)))
        beside.append(_with_pages(running, running.jwks_url, scale, half))
        apart.append(_with_pages(running, other.jwks_url, scale, half))
        pages.append(generator.pages(running.jwks_url, scale.seconds / 2, 0, _rate(pages[-1])))
    at = f"half load ({half:,.0f}/s)"
    for name, share, target in (("p50", 0.5, "1 ms"), ("p99", 0.99, "4 ms")):
        alone = [answers.at(share) for answers in bare]
        through = [getattr(r, name) for r in ours]
        results.value(f"half_load_bare_{name}_ms", f"bare KMS call at {at}, {name}", "", alone, "ms")
        results.value(f"half_load_{name}_ms", f"SignJwt at {at}, {name}", "", through, "ms")
        added = statistics.median(through) - statistics.median(alone)
        results.value(
            f"added_{name}_ms", f"added latency over the bare KMS call at half load, {name}", target, added, "ms"
        )
    if refused := sum(r.refused for r in (*ours, *beside, *apart)):
        print(f"  (the service refused {refused / len(ours) / 3:.1%} of the calls, which came in bursts)")
    text = f"p99 of SignJwt at half load with {JWKS_RATE:,.0f} JWK Sets a second / without"
    p99 = f"{statistics.median(r.p99 for r in beside):.2f} / {statistics.median(r.p99 for r in ours):.2f} ms"
    results.ratio("jwks_effect_on_p99", text, "1.3", [r.p99 for r in beside], [r.p99 for r in ours], note=p99)
    text = "the same with the sets of another service on this machine, for scale"
    results.ratio("jwks_apart_on_p99", text, "", [r.p99 for r in apart], [r.p99 for r in ours])
    results.value("jwks_per_second", "JWK Sets over HTTP, one worker", "4,000/s", [_rate(p) for p in pages[1:]], "/s")


def _rate(answers: Answers) -> float:
    return len(answers.latencies) / answers.seconds


def _with_pages(running: Service, url: str, scale: Scale, rate: float) -> Round:
    """Measure SignJwt while JWK Sets are fetched from somewhere."""
    request = sign_request("ES256")
    with generator.beside(Target(url), scale.seconds + generator.BESIDE_SECONDS, JWKS_RATE):
        return generator.sign(running, request, scale.seconds, Shape(rate=rate))


def compute(seconds: float) -> float:
    """Do nothing but compute, and return how much was done for a second of CPU."""
    done, start, end = 0, time.process_time(), time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(100):
            json.loads(CLAIMS)
        done += 1
    return done / (time.process_time() - start)


def workers(results: Results, scale: Scale) -> None:
    """Measure two workers against one, and before that what two processors can do: those of a virtual machine may be one core."""
    one: list[float] = []
    two: list[float] = []
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        list(pool.map(compute, [0.1] * WORKERS))  # starts both
        for _ in range(2 * scale.rounds):
            one.append(pool.submit(compute, scale.seconds / 2).result())
            two.append(sum(pool.map(compute, [scale.seconds / 2] * WORKERS)))
    results.ratio("two_processes_by_cpu", "two processes that only compute / one, by CPU", "", two, one)
    _two_workers(results, scale)


def _two_workers(results: Results, scale: Scale) -> None:
    rounds: dict[int, list[Round]] = {1: [], WORKERS: []}
    with service("aws", "ES256") as one, service("aws", "ES256", workers=WORKERS) as two:
        for _ in range(scale.rounds):
            for count, running in ((1, one), (WORKERS, two)):
                rounds[count].append(generator.sign(running, sign_request("ES256"), scale.seconds, WIDE))
    rates = {count: [r.rate for r in made] for count, made in rounds.items()}
    note = f"{statistics.median(rates[WORKERS]):,.0f} / {statistics.median(rates[1]):,.0f} a second"
    results.ratio(
        "two_workers",
        "two workers / one, tokens a second (KMS and load share the cores)",
        "1.7",
        rates[WORKERS],
        rates[1],
        note=note,
    )
    for count, made in rounds.items():
        word = "one worker" if count == 1 else "two workers"
        each = [1e6 / r.cpu for r in made]
        used = [statistics.median(r.cores[part] for r in made) for part in range(3)]
        cores = "cores: service {:.2f}, KMS {:.2f}, load {:.2f}".format(*used)
        results.value(f"tokens_per_cpu_second_{count}", f"{word}: tokens for a second of its CPU", "", each, "", cores)
    per = [[WORKERS / r.cpu for r in rounds[WORKERS]], [1 / r.cpu for r in rounds[1]]]
    text = "two workers / one, if each had a core (load and KMS taken out)"
    results.ratio("two_workers_by_cpu", text, "1.7", per[0], per[1])
