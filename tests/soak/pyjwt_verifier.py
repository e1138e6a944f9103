"""A verifier on PyJWT, as a process: it reads jobs, a line of JSON each, and answers each with a line.

    python pyjwt_verifier.py library|strict MAX_AGE STALE_IF_ERROR

A job is {"id", "issuer", "audience", "url", "token"}. An answer is {"id", "outcome", "detail"}.

`library` uses `PyJWKClient`, which fetches the set again for an unknown kid. `strict` does all that RFC 9111 and RFC 5861 permit to
the harm of a new key: it ignores `Age`, keeps a set for max-age, and for stale-if-error more while it cannot fetch, and does not
fetch for an unknown kid.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPException
from typing import Any

import jwt

_TIMEOUT = 1.0
_ALGORITHMS = ["ES256", "ES384"]


class NoSetError(Exception):
    """There is no set to verify with."""


class UnknownKidError(Exception):
    """The set does not have the key."""


class Strict:
    """Keeps the set of one URL."""

    def __init__(self, url: str, max_age: float, stale_if_error: float) -> None:
        self._url, self._max_age, self._stale = url, max_age, stale_if_error
        self._got = float("-inf")
        self._keys: dict[str, Any] = {}

    def key(self, token: str) -> Any:
        """Return the key of a token.

        Raises:
            NoSetError: The set cannot be fetched.
            UnknownKidError: It does not have the key.
        """
        asked = time.monotonic()
        if asked - self._got >= self._max_age:
            try:
                self._fetch()
            except (OSError, HTTPException, ValueError):
                if time.monotonic() - self._got >= self._max_age + self._stale:
                    raise NoSetError from None
        kid = jwt.get_unverified_header(token)["kid"]
        if kid not in self._keys:
            raise UnknownKidError(f"the set is {time.monotonic() - self._got:.2f} s old")
        return self._keys[kid]

    def _fetch(self) -> None:
        with urllib.request.urlopen(self._url, timeout=_TIMEOUT) as answer:  # noqa: S310 - a proxy on loopback
            found = jwt.PyJWKSet.from_json(answer.read().decode())
            if answer.status != HTTPStatus.OK:
                raise ValueError(answer.status)
        # From its arrival, as verifiers do, and not from the request.
        self._got, self._keys = time.monotonic(), {str(k.key_id): k for k in found.keys}


def _library(url: str, max_age: float) -> Callable[[str], Any]:
    return jwt.PyJWKClient(url, lifespan=max_age, timeout=_TIMEOUT).get_signing_key_from_jwt


def judge(job: dict[str, str], find: Callable[[str], Any]) -> tuple[str, str]:
    """Verify a token, and return the outcome and its detail."""
    try:
        key = find(job["token"])
        jwt.decode(job["token"], key, _ALGORITHMS, audience=job["audience"], issuer=job["issuer"])
    except (
        NoSetError,
        jwt.PyJWKClientConnectionError,
        OSError,
        HTTPException,
    ):  # PyJWT lets some pass: a reset, half an answer
        return "no set", ""
    except jwt.ExpiredSignatureError:
        return "expired", ""
    except (UnknownKidError, jwt.PyJWTError) as error:
        return "refused", f"{type(error).__name__}: {error}"
    return "accepted", ""


def main(kind: str, max_age: float, stale_if_error: float) -> None:
    """Answer until the input ends."""
    finders: dict[str, Callable[[str], Any]] = {}
    for line in sys.stdin:
        job = json.loads(line)
        url = job["url"]
        if url not in finders:
            strict = kind == "strict"
            finders[url] = Strict(url, max_age, stale_if_error).key if strict else _library(url, max_age)
        outcome, detail = judge(job, finders[url])
        sys.stdout.write(json.dumps({"id": job["id"], "outcome": outcome, "detail": detail}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
