"""The contract accepts exactly the signatures that the service accepts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mldsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sealwright import signing
from sealwright.errors import SignatureRejectedError
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.jose.jwk import load_public_key
from sealwright.jose.signatures import SignatureEncoding
from sealwright.provider import KeyDescription, Protection, RawSignature
from sealwright_testing.contract.judging import accept, another_library_accepts, signing_input

ES256, HS256 = ALGORITHMS["ES256"], ALGORITHMS["HS256"]
PRIVATE = ec.generate_private_key(ec.SECP256R1())
MESSAGE = signing_input(ES256)
DER = PRIVATE.sign(MESSAGE, ec.ECDSA(hashes.SHA256()))
CONCATENATED = b"".join(n.to_bytes(32, "big") for n in decode_dss_signature(DER))
SPKI = PRIVATE.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def described(public_key: bytes | None = SPKI) -> KeyDescription:
    return KeyDescription(
        uri="x:1", public_key=public_key, algorithms=frozenset({"ES256"}), protection=Protection.SOFTWARE
    )


@pytest.mark.parametrize(
    ("name", "value", "encoding", "uri", "good"),
    [
        ("ES256", DER, SignatureEncoding.DER, "x:1", True),
        ("ES256", CONCATENATED, SignatureEncoding.CONCATENATED, "x:1", True),
        ("ES256", DER, SignatureEncoding.DER, "x:2", False),
        ("ES256", DER, SignatureEncoding.CONCATENATED, "x:1", False),
        ("ES256", CONCATENATED, SignatureEncoding.OPAQUE, "x:1", False),
        ("ES256", DER[:-1], SignatureEncoding.DER, "x:1", False),
        ("ES256", CONCATENATED[1:], SignatureEncoding.CONCATENATED, "x:1", False),
        ("ES256", CONCATENATED[1:-1], SignatureEncoding.CONCATENATED, "x:1", False),
        ("ES256", bytes(64), SignatureEncoding.CONCATENATED, "x:1", False),
        ("ES256", bytes.fromhex("3006020100020101"), SignatureEncoding.DER, "x:1", False),
        ("ES256", b"", SignatureEncoding.DER, "x:1", False),
        ("ES384", CONCATENATED, SignatureEncoding.CONCATENATED, "x:1", False),
        ("HS256", bytes(32), SignatureEncoding.OPAQUE, "x:1", True),
        ("HS256", bytes(31), SignatureEncoding.OPAQUE, "x:1", False),
        ("HS256", bytes(32), SignatureEncoding.OPAQUE, "x:2", False),
    ],
    ids=[f"answer {n}" for n in range(15)],
)
def test_the_judge_says_what_the_signer_says(
    name: str, value: bytes, encoding: SignatureEncoding, uri: str, *, good: bool
) -> None:
    algorithm = ALGORITHMS[name]
    raw = RawSignature(value=value, encoding=encoding, key_uri=uri)
    public = None if algorithm.symmetric else load_public_key(SPKI)
    key = SimpleNamespace(algorithm=algorithm, public_key=public, uri="x:1", kid="k", provider="p")
    description = described(None if algorithm.symmetric else SPKI)

    def ours() -> bytes:
        return accept(description, algorithm, MESSAGE, raw)

    def theirs() -> bytes:
        return signing.accept("r", key, MESSAGE, raw)  # type: ignore[arg-type]

    if good:
        assert ours() == theirs()
    else:
        for judge in (ours, theirs):
            with pytest.raises(SignatureRejectedError):
                judge()


def test_another_library_is_asked() -> None:
    assert another_library_accepts(SPKI, ES256, MESSAGE, CONCATENATED)
    assert not another_library_accepts(SPKI, ES256, signing_input(ES256, "another"), CONCATENATED)
    assert not another_library_accepts(SPKI, ES256, MESSAGE, CONCATENATED[:-1] + bytes([CONCATENATED[-1] ^ 1]))


def test_another_library_is_asked_for_ml_dsa_too() -> None:
    algorithm, private = ALGORITHMS["ML-DSA-44"], mldsa.MLDSA44PrivateKey.generate()
    spki = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    message = signing_input(algorithm)
    signature = private.sign(message)
    assert another_library_accepts(spki, algorithm, message, signature)
    assert not another_library_accepts(spki, algorithm, signing_input(algorithm, "another"), signature)
    assert not another_library_accepts(spki, algorithm, message, signature[:-1] + bytes([signature[-1] ^ 1]))
