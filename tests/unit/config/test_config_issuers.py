"""Issuers: their URLs, their series, and what two of them must not share."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import mldsa

from sealwright.config import parse

from .samples import problems, problems_with, sample


def with_urls(*urls: str) -> dict[str, Any]:
    document = sample()
    first = document["issuers"][0]
    document["issuers"] = [{**first, "name": f"i{n}", "url": url} for n, url in enumerate(urls)]
    return document


def with_series(*algorithms: str, **more: Any) -> dict[str, Any]:
    document = sample()
    document["issuers"][0] |= {
        "series": [{"name": f"s{i}", "algorithm": a, "provider": "aws-eu"} for i, a in enumerate(algorithms)],
        **more,
    }
    return document


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://id.example.com", ""),
        ("https://id.example.com/", ""),
        ("https://id.example.com/t/1", "/t/1"),
        ("https://id.example.com/t/1/", "/t/1"),
        ("HTTPS://ID.example.com/T", "/T"),
        ("https://id.example.com:8443/t", "/t"),
        ("https://[2001:db8::1]/t", "/t"),
        ("https://192.0.2.1/", ""),
        ("https://id.example.com/~a/b_c.d-e;f=1,@!$&'()*+", "/~a/b_c.d-e;f=1,@!$&'()*+"),
    ],
)
def test_c94_an_issuers_url_is_kept_to_the_byte(url: str, path: str) -> None:
    issuer = parse(with_urls(url)).issuers[0]
    assert issuer.url == url
    assert issuer.path == path


@pytest.mark.parametrize(
    "url",
    [
        "",
        "id.example.com",
        "//id.example.com",
        "http://id.example.com",
        "ftp://id.example.com",
        "https:",
        "https://",
        "https:///path",
        "https://:443",
        "https://user@id.example.com",
        "https://user:password@id.example.com",
        "https://@id.example.com",
        "https://id.example.com?",
        "https://id.example.com?a=b",
        "https://id.example.com#",
        "https://id.example.com/#a",
        "https://id.example.com:port",
        "https://id.example.com:65536",
        "https://[::1",
        "https://id.example.com/a b",
        "https://id.example.com/a\n",
        " https://id.example.com",
        "https://id.example.com/\t",
        "https://id.example.com/\0",
        "https://id.example.com/ä",
        "https://ä.example.com",
        "https://id.example.com/%7Ea",
        "https://id.example.com//a",
        "https://id.example.com/a//",
        "https://id.example.com/./a",
        "https://id.example.com/a/..",
        "https://id.example.com/{a}",
        "https://id.example.com\\a",
        'https://id.example.com/"',
        "https://id.example.com/.well-known/jwks.json",
        "https://id.example.com/.well-known",
    ],
)
def test_what_cannot_be_an_issuers_url_is_refused(url: str) -> None:
    (problem,) = problems(with_urls(url))
    assert problem.startswith("issuers[0].url: must ")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://a.example/t", "https://b.example/t"),
        ("https://a.example/t", "https://a.example/t"),
        ("https://a.example/t", "https://b.example/t/"),
        ("https://a.example", "https://b.example/"),
        ("https://a.example", "https://b.example"),
        ("HTTPS://a.example/t", "https://b.example:8443/t"),
        ("https://a.example/t", "http://b.example/t"),
    ],
)
def test_c94_two_issuers_cannot_have_one_path(one: str, other: str) -> None:
    expected = "issuers[1].url: issuers[0] already has this path; each issuer needs its own, because its JWK Set is served there"
    assert expected in problems(with_urls(one, other))


def test_issuers_whose_paths_differ_live_side_by_side() -> None:
    urls = ["https://a.example", "https://a.example/t", "https://a.example/T", "https://a.example/t/t"]
    assert problems(with_urls(*urls)) == []


def test_c26_names_that_would_mix_up_two_keys_are_refused() -> None:
    document = with_urls("https://a.example/1", "https://a.example/2", "https://a.example/3")
    document["issuers"][1]["name"] = document["issuers"][2]["name"] = "i0"
    series = document["issuers"][0]["series"][0]
    document["issuers"][0]["series"] = [series, {**series, "algorithm": "ES384"}]
    assert sorted(problems(document)) == [
        "issuers[0].series[1].name: issuers[0].series[0] already has this name",
        "issuers[1].name: issuers[0] already has this name",
        "issuers[2].name: issuers[0] already has this name",
    ]


def test_series_of_two_issuers_may_have_one_name() -> None:
    document = with_urls("https://a.example/1", "https://a.example/2")
    assert problems(document) == []


@pytest.mark.parametrize(
    ("mixed", "lost"),
    [
        (("RS256", "ES256K"), ["ES256K: go-jose 4.1.9, go-jose.v2 2.6.0, jwx 3.4.0", "PyJWT 2.0.1"]),
        (("ES256", "EdDSA"), ["EdDSA: node-jose 2.2.0, python-jose 3.5.0, PyJWT 2.0.1)"]),
        (("Ed25519", "PS256"), ["Ed25519: node-jose", "Rust jsonwebtoken 9.3.1"]),
        (("EdDSA", "ES256K"), ["(EdDSA: node-jose", "; ES256K: go-jose 4.1.9"]),
        (("RS256", "ES256", "ES512"), ["(ES512: Rust jsonwebtoken 9.3.1)"]),
        (("ES384", "ES512"), ["(ES512: Rust jsonwebtoken 9.3.1)"]),
        (("EdDSA", "Ed25519"), ["(EdDSA: node-jose", "; Ed25519: node-jose"]),
    ],
)
def test_c42_keys_that_make_some_libraries_drop_the_set_need_to_be_asked_for(
    mixed: tuple[str, ...], lost: list[str]
) -> None:
    (problem,) = problems(with_series(*mixed))
    assert problem.startswith("issuers[0].series: some libraries drop the whole JWK Set")
    assert "set mixed_key_types = true" in problem
    assert [part for part in lost if part not in problem] == []
    assert problems(with_series(*mixed, mixed_key_types=True)) == []


@pytest.mark.parametrize("name", ["ML-DSA-44", "ML-DSA-65", "ML-DSA-87"])
@pytest.mark.parametrize("beside", ["RS256", "ES256", "ES512", "EdDSA"])
def test_c43_an_ml_dsa_key_joins_other_keys_only_by_choice(name: str, beside: str) -> None:
    (problem,) = problems(with_series(beside, name))
    assert "set mixed_key_types = true" in problem
    for library in ("authlib.jose 1.9.10", "node-jose 2.2.0", "jwcrypto 1.5.6", "go-jose", "jwx 3"):
        assert library in problem.partition(f"{name}: ")[2]
    assert problems(with_series(beside, name, mixed_key_types=True)) == []


@pytest.mark.parametrize(
    "alone",
    [
        ("ES256K",),
        ("ES512", "ES512"),
        ("EdDSA", "EdDSA"),
        ("RS256", "ES256", "PS512", "ES384"),
        ("ML-DSA-44", "ML-DSA-87"),
        ("EdDSA", "HS256"),
    ],
)
def test_c42_c43_sets_whose_keys_have_the_same_readers_need_no_asking(alone: tuple[str, ...]) -> None:
    assert problems(with_series(*alone)) == []


@pytest.mark.parametrize("name", ["ML-DSA-44", "ML-DSA-65", "ML-DSA-87"])
def test_an_installation_that_cannot_verify_ml_dsa_says_so_when_the_configuration_is_checked(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_data: bytes) -> Any:
        raise UnsupportedAlgorithm("not in this OpenSSL")

    monkeypatch.setattr(mldsa.MLDSA44PublicKey, "from_public_bytes", missing)
    (problem,) = problems(with_series(name))
    assert problem.startswith(
        f"issuers[0].series[0].algorithm: the OpenSSL of the installed cryptography has no {name}"
    )
    assert problems(with_series("ES256")) == []


@pytest.mark.parametrize("typ", ["", "a b", "application/jwt", "a" * 65, "JWT\n", "ä"])
def test_a_token_type_is_one_that_a_header_may_have(typ: str) -> None:
    (problem,) = problems_with("issuers.0.token_types", [typ])
    assert problem.startswith("issuers[0].token_types[0]: must be a value of `typ`")
