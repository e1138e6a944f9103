"""Verifies tokens with a Python library, in the virtual environment of requirements/interop.lock.

Usage: run.py LIBRARY, with jobs on standard input, as for node/run.mjs: a list of

    {"url": of a JWK Set, "issuer", "audience", "algorithms": [...], "tokens": {name: token}}

It prints a list of {"results": {name: {"claims"} or {"error", "message"}}}. Each library is used as its documentation says.
Modules are loaded by name, since the type checker runs where most of them are not installed.
"""

from __future__ import annotations

import json
import sys
import urllib.request
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

Verify = Callable[[str], Mapping[str, Any]]


def _read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our service, on loopback
        return str(answer.read(), "utf-8")


def _pyjwt(job: Mapping[str, Any]) -> Verify:
    jwt = import_module("jwt")
    client = jwt.PyJWKClient(job["url"])

    def verify(token: str) -> Mapping[str, Any]:
        key = client.get_signing_key_from_jwt(token)
        return dict(jwt.decode(token, key, job["algorithms"], audience=job["audience"], issuer=job["issuer"]))

    return verify


def _joserfc(job: Mapping[str, Any]) -> Verify:
    jwt, jwk = import_module("joserfc.jwt"), import_module("joserfc.jwk")
    keys = jwk.KeySet.import_key_set(json.loads(_read(job["url"])))

    def verify(token: str) -> Mapping[str, Any]:
        decoded = jwt.decode(token, keys, algorithms=job["algorithms"])
        jwt.JWTClaimsRegistry(
            exp={"essential": True},
            iss={"essential": True, "value": job["issuer"]},
            aud={"essential": True, "value": job["audience"]},
        ).validate(decoded.claims)
        return dict(decoded.claims)

    return verify


def _jwcrypto(job: Mapping[str, Any]) -> Verify:
    jwt, jwk = import_module("jwcrypto.jwt"), import_module("jwcrypto.jwk")
    keys = jwk.JWKSet.from_json(_read(job["url"]))

    def verify(token: str) -> Mapping[str, Any]:
        wanted = {"iss": job["issuer"], "aud": job["audience"], "exp": None}
        checked = jwt.JWT(algs=job["algorithms"], check_claims=wanted)
        checked.leeway = 0
        checked.deserialize(token, keys)
        return dict(json.loads(checked.claims))

    return verify


def _authlib(job: Mapping[str, Any]) -> Verify:
    jose = import_module("authlib.jose")
    keys = jose.JsonWebKey.import_key_set(json.loads(_read(job["url"])))

    def verify(token: str) -> Mapping[str, Any]:
        options = {
            name: {"essential": True, "value": job[key]} for name, key in (("iss", "issuer"), ("aud", "audience"))
        }
        claims = jose.JsonWebToken(job["algorithms"]).decode(token, keys, claims_options=options)
        claims.validate()
        return dict(claims)

    return verify


def _python_jose(job: Mapping[str, Any], *, whole_set: bool = False) -> Verify:
    jwt = import_module("jose.jwt")
    keys = json.loads(_read(job["url"]))

    def verify(token: str) -> Mapping[str, Any]:
        kid = jwt.get_unverified_header(token)["kid"]
        key = keys if whole_set else next(k for k in keys["keys"] if k["kid"] == kid)
        return dict(jwt.decode(token, key, job["algorithms"], audience=job["audience"], issuer=job["issuer"]))

    return verify


def _google_auth(job: Mapping[str, Any]) -> Verify:
    id_token, requests = import_module("google.oauth2.id_token"), import_module("google.auth.transport.requests")
    request = requests.Request()

    def verify(token: str) -> Mapping[str, Any]:
        return dict(id_token.verify_token(token, request, job["audience"], certs_url=job["url"]))

    return verify


LIBRARIES: Mapping[str, Callable[[Mapping[str, Any]], Verify]] = {
    "pyjwt": _pyjwt,
    "joserfc": _joserfc,
    "jwcrypto": _jwcrypto,
    "authlib": _authlib,
    "python-jose": _python_jose,
    "python-jose-whole-set": lambda job: _python_jose(job, whole_set=True),
    "google-auth": _google_auth,
}


def _judge(library: str, job: Mapping[str, Any]) -> dict[str, Any]:
    # A library that cannot read a set refuses whatever is to be verified by it, and says why each time.
    results: dict[str, Any] = {}
    for name, token in job["tokens"].items():
        try:
            results[name] = {"claims": _opened(library, job)(token)}
        except Exception as e:  # noqa: BLE001 - whatever it raises is its way of refusing
            results[name] = {"error": type(e).__name__, "message": str(e)}
    return {"results": results}


_verifiers: dict[str, Verify] = {}


def _opened(library: str, job: Mapping[str, Any]) -> Verify:
    if job["url"] not in _verifiers:
        _verifiers[job["url"]] = LIBRARIES[library](job)
    return _verifiers[job["url"]]


def main() -> None:
    """Judge all jobs."""
    warnings.simplefilter("ignore")  # authlib.jose says at import that joserfc follows it
    sys.stdout.write(json.dumps([_judge(sys.argv[1], job) for job in json.load(sys.stdin)]))


if __name__ == "__main__":
    main()
