"""The document: what is accepted, and how problems are reported."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from sealwright.access.patterns import Pattern
from sealwright.config import parse
from sealwright.issuer_settings import JwksSettings
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.provider import Protection
from sealwright.server.addresses import Address

from .samples import at, problems, problems_after, problems_with, sample

JARGON = re.compile(
    r"Input should|String should|List should|Value error|validation|instance|BaseModel|Settings|Traceback|<class"
)


def test_every_field_of_the_designs_sample_is_taken() -> None:
    config = parse(sample())
    assert config.server.grpc == Address("127.0.0.1", 8443)
    assert config.server.http == Address("127.0.0.1", 8080)
    assert config.server.admin == Address("127.0.0.1", 9090)
    assert config.timing.max_staleness == timedelta(minutes=15)
    issuer = config.issuers[0]
    assert issuer.url == "https://id.example.com/payments"
    assert issuer.jwks == JwksSettings(max_age=timedelta(minutes=5), stale_if_error=timedelta(minutes=10))
    assert issuer.series[0].rotation_period == timedelta(days=30)
    assert config.grants[0].audiences == [Pattern("https://api.example.com/**")]


def test_the_samples_values_are_the_defaults() -> None:
    document = sample()
    for path in (("timing",), ("issuers", 0, "jwks")):
        at(document, *path).clear()
    for key in ("default_lifetime", "max_lifetime", "max_token_bytes", "token_types"):
        del document["issuers"][0][key]
    del document["issuers"][0]["series"][0]["min_lead"]
    for key in ("grpc", "http", "admin", "workers", "insecure_local"):
        del document["server"][key]
    assert parse(document) == parse(sample())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("issuers.0.series.0.destroy_after", "30d"),
        ("issuers.0.series.0.create", True),
        ("issuers.0.series.0.protection", "hsm"),
        ("issuers.0.migrating", True),
        ("issuers.0.caller_chooses_jti", True),
        ("providers.aws-eu.endpoint_url", "http://127.0.0.1:4566"),
        ("providers.aws-eu.message", "raw"),
        ("providers.aws-eu.transport", "boto3"),
        ("providers.aws-eu.timeout", "500ms"),
        ("issuers.0.jwks.stale_if_error", "0s"),
        ("server.http_plaintext", True),
    ],
)
def test_an_option_that_the_sample_only_mentions_works(path: str, value: Any) -> None:
    assert problems_with(path, value) == []


def test_commented_options_have_their_meaning() -> None:
    document = sample()
    document["issuers"][0]["series"][0] |= {
        "algorithm": "PS384",
        "rsa_bits": 3072,
        "protection": "hsm",
    }
    series = parse(document).issuers[0].series[0]
    assert (series.rsa_bits, series.protection) == (3072, Protection.HSM)


def test_f44_a_series_that_could_never_get_a_key_is_refused() -> None:
    (problem,) = problems_with("issuers.0.series.0.create", False)  # noqa: FBT003 - the value of a setting
    assert problem.startswith("issuers[0].series[0].create: must be true: this version has no RPC that registers a key")


@pytest.mark.parametrize(
    "table",
    [
        "",
        "server",
        "server.tls",
        "timing",
        "store",
        "audit",
        "providers.aws-eu",
        "issuers.0",
        "issuers.0.jwks",
        "issuers.0.series.0",
        "grants.0",
    ],
)
def test_an_unknown_key_is_refused_at_every_level(table: str) -> None:
    shown = re.sub(r"\.(\d+)", r"[\1]", table)
    expected = f"{shown}.grcp: unknown key" if table else "grcp: unknown key"
    assert problems_with(f"{table}.grcp" if table else "grcp", 1) == [expected]


def test_every_problem_is_reported_at_once_with_its_path() -> None:
    document = sample()
    document["server"]["grcp"] = "127.0.0.1:1"
    document["server"]["workers"] = 0
    document["timing"] |= {"refresh_interval": "0s", "verifier_skew": "1s"}
    document["store"]["url"] = "mysql://host/db"
    document["providers"]["x"] = {"kind": "vault"}
    document["providers"]["aws-eu"]["region"] = "Ireland"
    document["issuers"][0] |= {"url": "http://id.example.com", "default_lifetime": "2h"}
    document["issuers"].append(
        {"name": "payments", "url": "https://a/b", "series": [{"name": "s", "algorithm": "es256"}]}
    )
    document["issuers"][1]["series"][0]["provider"] = "nobody"
    document["grants"][0]["roles"] = ["signr"]
    assert sorted(p.split(":")[0] for p in problems(document)) == sorted(
        [
            "server.grcp",
            "server.workers",
            "timing.refresh_interval",
            "timing.verifier_skew",
            "store.url",
            "providers.x.kind",
            "providers.aws-eu.region",
            "issuers[0].url",
            "issuers[0].default_lifetime",
            "issuers[1].name",
            "issuers[1].series[0].algorithm",
            "issuers[1].series[0].provider",
            "grants[0].roles[0]",
        ]
    )


@pytest.mark.parametrize("table", ["server", "store", "audit", "providers", "issuers"])
def test_a_table_that_nothing_can_stand_in_for_must_be_given(table: str) -> None:
    found = problems_after(lambda d: d.pop(table))
    assert f"{table}: must be given" in found


def test_an_empty_document_names_every_table_that_is_missing() -> None:
    assert problems({}) == [f"{t}: must be given" for t in ("server", "store", "audit", "providers", "issuers")]


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("server.workers", "2", "server.workers: must be a whole number"),
        ("server.workers", True, "server.workers: must be a whole number"),
        ("server.workers", 257, "server.workers: must be at most 256"),
        ("server.insecure_local", "no", "server.insecure_local: must be true or false"),
        ("server.grpc", 8443, "server.grpc: must be text"),
        ("server", [], "server: must be a table"),
        ("providers", [], "providers: must be a table of tables"),
        ("providers.aws-eu", "aws", "providers.aws-eu: must be a table"),
        ("providers.aws-eu", {}, "providers.aws-eu.kind: must be given"),
        ("providers.aws-eu", {"kind": 1}, "providers.aws-eu.kind: must be text"),
        ("providers.aws-eu.message", "hash", "providers.aws-eu.message: must be 'digest' or 'raw'"),
        ("issuers", {}, "issuers: must be a list"),
        ("issuers", [], "issuers: must have 1 or more entries"),
        ("issuers.0.series", [], "issuers[0].series: must have 1 or more entries"),
        ("issuers.0.token_types", "JWT", "issuers[0].token_types: must be a list"),
        ("issuers.0.max_token_bytes", 255, "issuers[0].max_token_bytes: must be at least 256"),
        (
            "issuers.0.series.0.protection",
            "vault",
            "issuers[0].series[0].protection: must be 'software', 'hsm' or 'external'",
        ),
        ("grants.0.caller", "a*", "grants[0].caller: `*` and `**` must be whole segments between slashes"),
        ("plugins", [1], "plugins[0]: must be text"),
        ("audit.path", "log", "audit.path: must be an absolute path"),
        ("audit.path", "/log\0", "audit.path: must be a path, without NUL"),
        ("server.tls.private_key", "", "server.tls.private_key: must be a path, without NUL"),
        ("a key\nwith a line", 1, '"a key\\nwith a line": unknown key'),
    ],
)
def test_a_problem_is_reported_in_the_words_of_the_file(path: str, value: Any, problem: str) -> None:
    assert problem in problems_with(path, value)


NAMES = ["", "A", "a_b", "-a", "a-", "1a", "a" * 64, "a.b", "ä", "a\n"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("path", ["issuers.0.name", "issuers.0.series.0.name"])
def test_c79_a_name_that_no_resource_can_have_is_refused(path: str, name: str) -> None:
    (problem,) = problems_with(path, name)
    assert problem.endswith(
        ": must consist of at most 63 lower-case letters, digits and hyphens, begin with a letter and not end with a hyphen"
    )


def test_a_provider_with_a_bad_name_is_checked_too() -> None:
    found = problems_after(lambda d: d["providers"].__setitem__("My KMS", {"kind": "aws", "region": "x", "more": 1}))
    assert [p.split(":")[0] for p in found] == [
        'providers."My KMS"',
        'providers."My KMS".region',
        'providers."My KMS".more',
    ]


def test_an_algorithm_goes_by_its_exact_name() -> None:
    for name in ALGORITHMS:
        assert problems_with("issuers.0.series.0.algorithm", name) == []
    for name in ("es256", "ES-256", "ES256 ", "none", "HS1", "ed25519", "RSA256", ""):
        (problem,) = problems_with("issuers.0.series.0.algorithm", name)
        assert problem.startswith("issuers[0].series[0].algorithm: unknown JWS algorithm; must be one of RS256")


@pytest.mark.parametrize(
    ("bits", "right"), [(2048, True), (3072, True), (4096, True), (1024, False), (2047, False), (8192, False)]
)
def test_the_size_of_rsa_keys_is_one_that_every_kms_makes(bits: int, *, right: bool) -> None:
    def change(document: dict[str, Any]) -> None:
        document["issuers"][0]["series"][0] |= {"algorithm": "RS256", "rsa_bits": bits}

    assert (problems_after(change) == []) is right


def test_the_size_of_rsa_keys_is_for_rsa_only() -> None:
    assert problems_with("issuers.0.series.0.rsa_bits", 2048) == [
        "issuers[0].series[0].rsa_bits: applies to RS* and PS* only; remove it"
    ]


def test_no_problem_shows_a_value_or_the_words_of_the_library() -> None:
    secret = "hunter2"
    for path in ("store.url", "issuers.0.url", "server.grpc", "timing.max_staleness", "audit.path", "grants.0.caller"):
        for value in (secret, f"{secret}*", [secret], {"a": secret}, {secret: 1}, 7, 1.5, None):
            for problem in problems_with(path, value):
                assert not JARGON.search(problem), problem
                assert secret not in problem.partition(": ")[2]
