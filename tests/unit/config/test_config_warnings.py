"""Warnings: what is allowed, but probably not intended."""

from __future__ import annotations

from typing import Any

import pytest

from sealwright.config import parse, warnings

from .samples import sample


def warned(document: dict[str, Any]) -> list[str]:
    return list(warnings(parse(document)))


def series(algorithm: str, **more: Any) -> dict[str, Any]:
    return {"name": f"{algorithm.lower()}-{len(more)}", "algorithm": algorithm, "provider": "aws-eu", **more}


def test_the_sample_is_what_is_meant() -> None:
    assert warned(sample()) == []


def test_without_grants_no_caller_may_do_anything() -> None:
    assert warned(sample() | {"grants": []}) == ["grants: there are none, so no caller may do anything"]


def test_a_grant_for_an_issuer_that_does_not_exist_gives_a_warning() -> None:
    document = sample()
    document["grants"][0]["issuers"] = ["*", "payment", "payments"]
    assert warned(document) == ["grants[0].issuers[1]: no issuer matches this pattern"]


def test_f44_a_role_that_permits_nothing_gives_a_warning() -> None:
    document = sample()
    document["grants"][0]["roles"] = ["signer", "registrar"]
    expected = "grants[0].roles[1]: this version has no RPC for registrar, so the role permits nothing"
    assert warned(document) == [expected]


def test_a_set_that_common_readers_cannot_hold_gives_a_warning() -> None:
    document = sample()
    document["issuers"][0]["series"] = [series("RS256", rsa_bits=4096), series("PS256"), series("ES256")]
    (small,) = warned(document)
    assert small.startswith("issuers[0]: the JWK Set may have about ")
    assert small.endswith("bytes, but nginx's default buffer holds only 4096")
    document["issuers"][0]["series"] = [{**series("RS256", rsa_bits=4096), "name": f"s{i}"} for i in range(8)]
    assert [w.rpartition(" but ")[2] for w in warned(document)] == [
        "nginx's default buffer holds only 4096",
        "mod_auth_openidc's cache holds only 16384",
    ]


def test_c42_c43_mixed_sets_name_the_libraries_that_drop_them_once_for_each_issuer() -> None:
    document = sample()
    document["issuers"][0] |= {
        "mixed_key_types": True,
        "series": [series("RS256"), series("ES512"), {**series("ES512"), "name": "second"}, series("ES256K")],
    }
    (warning,) = warned(document)
    assert warning == (
        "issuers[0].mixed_key_types: these libraries drop the whole JWK Set because of a key in it: "
        "ES512: Rust jsonwebtoken 9.3.1; "
        "ES256K: go-jose 4.1.9, go-jose.v2 2.6.0, jwx 3.4.0 (unless built with jwx_es256k), Rust jsonwebtoken 9.3.1, "
        "python-jose 3.5.0, PyJWT 2.0.1"
    )
    document["issuers"][0]["series"] = [series("ES256"), series("RS256")]
    assert warned(document) == []


@pytest.mark.parametrize(("name", "most"), [("ML-DSA-44", 5700), ("ML-DSA-65", 8300), ("ML-DSA-87", 10900)])
def test_c43_ml_dsa_keys_count_with_their_size(name: str, most: int) -> None:
    document = sample()
    document["issuers"][0]["series"] = [series(name)]
    (warning,) = warned(document)
    size = int(warning.partition("about ")[2].partition(" ")[0])
    assert most - 300 < size < most
    document["issuers"][0]["series"] = [{**series(name), "name": f"s{n}"} for n in range(3)]
    assert [w.rpartition(" but ")[2] for w in warned(document)] == [
        "nginx's default buffer holds only 4096",
        "mod_auth_openidc's cache holds only 16384",
    ]


def test_keys_that_stay_for_long_lived_tokens_count_towards_the_set() -> None:
    document = sample()
    document["issuers"][0] |= {"max_lifetime": "300d"}
    document["issuers"][0]["series"][0]["rotation_period"] = "300d"
    assert not any("nginx" in w for w in warned(document))
    document["issuers"][0]["series"][0]["rotation_period"] = "10d"
    assert "nginx's default buffer" in warned(document)[0]


def test_a_rotation_that_comes_later_than_its_period_gives_a_warning() -> None:
    document = sample()
    document["issuers"][0]["series"][0]["rotation_period"] = "1h"
    (warning,) = warned(document)
    assert warning.startswith("issuers[0].series[0].rotation_period: a scheduled rotation waits until")
    assert "published for 1 day, 0:31:00" in warning


@pytest.mark.parametrize(
    ("timing", "more", "told"),
    [
        ({}, {}, False),
        ({"verifier_refresh": "24h"}, {}, False),  # and 31 min, as the scheduled wait
        ({"verifier_refresh": "1441m"}, {}, True),
        ({"verifier_refresh": "48h"}, {"min_lead": "2911m"}, False),
        ({"verifier_refresh": "48h"}, {"min_lead": "2910m"}, True),
        ({"max_serve_age": "1h"}, {}, True),
        ({"max_serve_age": "1h", "verifier_refresh": "0s"}, {}, False),
    ],
)
def test_f63_a_rotation_that_does_not_wait_for_verifiers_that_look_seldom_gives_a_warning(
    timing: dict[str, str], more: dict[str, str], *, told: bool
) -> None:
    document = sample()
    document["timing"] = {**document.get("timing", {}), **timing}
    document["issuers"][0]["series"] = [{**series("ES256"), "rotation_period": "30d", **more}]
    found = [w for w in warned(document) if "timing.verifier_refresh" in w]
    assert bool(found) is told
    if told:
        assert found[0].startswith(
            "issuers[0].series[0].rotation_period: a scheduled rotation may use a key that has been"
        )
    del document["issuers"][0]["series"][0]["rotation_period"]
    assert not any("timing.verifier_refresh" in w for w in warned(document)), "by hand, the answer says so"


@pytest.mark.parametrize(("lifetime", "count"), [("30d", 0), ("31d", 1), ("3650d", 1)])
def test_f43_tokens_that_live_for_long_give_a_warning(lifetime: str, count: int) -> None:
    document = sample()
    document["issuers"][0]["max_lifetime"] = lifetime
    expected = "issuers[0].max_lifetime: tokens may live for more than 30 days, and nothing can recall one"
    assert [w for w in warned(document) if "max_lifetime" in w] == [expected] * count


def served(caller: str, *, local: bool, roles: list[str] | None = None, **server: Any) -> dict[str, Any]:
    document = sample()
    document["grants"][0] |= {"caller": caller, "roles": roles or ["signer"]}
    document["providers"]["aws-eu"]["endpoint_url"] = "http://127.0.0.1:1"
    if local:
        document["server"] = {"insecure_local": True, **server}
    return document


@pytest.mark.parametrize(
    ("caller", "local", "warning"),
    [
        ("local", True, ""),
        ("unix:uid=1000", True, "without TLS, callers have no certificates (use `local`)"),
        ("**", True, ""),
        ("*", False, ""),
        ("dns:a.example.com", False, ""),
        ("spiffe://example.org/**", True, "without TLS, callers have no certificates (use `local`)"),
        ("dns:a.example.com", True, "without TLS, callers have no certificates (use `local`)"),
        ("local", False, "with TLS, names of callers begin with spiffe:// or dns:"),
        ("payments", False, "with TLS, names of callers begin with spiffe:// or dns:"),
    ],
)
def test_f43_a_caller_that_never_matches_gives_a_warning(caller: str, local: bool, warning: str) -> None:  # noqa: FBT001
    expected = [f"grants[0].caller: matches no caller: {warning}"] if warning else []
    assert warned(served(caller, local=local)) == expected


@pytest.mark.parametrize("caller", ["spiffe://example.org/x", "local", "dns:a.example.com", "uid=1000", "unix:1000"])
def test_f10_f43_a_caller_that_a_unix_socket_never_has_gives_a_warning(caller: str) -> None:
    document = served(caller, local=False)
    document["server"]["grpc"] = "unix:/run/sealwright/grpc.sock"
    (warning,) = warned(document)
    assert "the name of a caller is `unix:uid=` and the number of its user" in warning
    document["grants"][0]["caller"] = "unix:uid=1000"
    assert warned(document) == []


def test_f43_all_roles_for_all_callers_give_a_warning() -> None:
    roles = ["signer", "rotator", "revoker", "auditor"]
    expected = ["grants[0].caller: every caller that can connect has all roles"]
    assert warned(served("**", local=False, roles=roles)) == expected
    assert warned(served("**", local=False, roles=roles[:3])) == []
    assert warned(served("dns:a", local=False, roles=roles)) == []


@pytest.mark.parametrize(
    ("endpoint", "count"),
    [(None, 1), ("https://kms.eu-west-1.amazonaws.com", 1), ("http://localhost:4566", 0), ("http://[::1]:1", 0)],
)
def test_f43_insecure_local_with_real_keys_gives_a_warning(endpoint: str | None, count: int) -> None:
    document = served("local", local=True)
    document["providers"]["aws-eu"].pop("endpoint_url")
    if endpoint:
        document["providers"]["aws-eu"]["endpoint_url"] = endpoint
    expected = (
        "server.insecure_local: any process on this host may sign with the keys of providers.aws-eu, which are in AWS"
    )
    assert warned(document) == [expected] * count
