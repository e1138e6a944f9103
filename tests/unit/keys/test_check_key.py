"""The comparison of a key that a provider describes with the request."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from sealwright.errors import ProviderUnsupportedError
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.keys.making import check_key
from sealwright.provider import KeyDescription, Protection
from unit.jose.keys import key_for, rsa_key, spki


def described(
    algorithm: str, protection: Protection = Protection.HSM, public_key: bytes | None = None
) -> KeyDescription:
    return KeyDescription(uri="x:1", public_key=public_key, algorithms=frozenset({algorithm}), protection=protection)


@pytest.mark.parametrize("found", list(Protection))
@pytest.mark.parametrize("asked", [None, *Protection])
def test_f22_a_key_that_is_kept_elsewhere_than_asked_is_refused(found: Protection, asked: Protection | None) -> None:
    key = described("ES256", found, spki(key_for(ALGORITHMS["ES256"]).public_key()))
    if asked in {None, found}:
        assert check_key(key, "ES256", asked) is key
        return
    with pytest.raises(ProviderUnsupportedError, match=f"is {found}; the series asks for {asked}"):
        check_key(key, "ES256", asked)


def test_a_key_that_does_not_fit_the_algorithm_is_refused() -> None:
    p256 = spki(key_for(ALGORITHMS["ES256"]).public_key())
    for key, algorithm in (
        (described("ES256", public_key=p256), "ES384"),
        (described("ES384", public_key=p256), "ES384"),
        (described("ES256", public_key=b""), "ES256"),
        (described("ES256"), "ES256"),
        (described("HS256", public_key=p256), "HS256"),
    ):
        with pytest.raises(ProviderUnsupportedError, match=f"cannot sign with {algorithm}"):
            check_key(key, algorithm, None)
    assert check_key(described("HS256"), "HS256", None).public_key is None


def test_f19_a_key_whose_exponent_go_cannot_read_is_refused() -> None:
    public = rsa.RSAPublicNumbers(2**32 + 1, rsa_key(2048).public_key().public_numbers().n).public_key()
    with pytest.raises(ProviderUnsupportedError):
        check_key(described("RS256", public_key=spki(public)), "RS256", None)
