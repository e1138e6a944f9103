"""A running service, and tokens of it that verifiers must take or refuse."""

from __future__ import annotations

import json
import ssl
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from interop.forging import Stranger, decode, encode
from sealwright.v1.keys_pb2_grpc import KeyServiceStub
from sealwright.v1.signing_pb2 import SignJwtRequest, SignJwtResponse
from sealwright.v1.signing_pb2_grpc import SigningServiceStub

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
AUDIENCE = "https://api.example.com"
SUBJECT = "customers/42"
CLAIMS = '{"client_id":"shop","scope":"refunds","größe":9007199254740993}'
"""RFC 9068 §2.2 wants a client_id of an access token, and oauth4webapi asks for it."""

MAIN = "payments"
ISSUERS: Mapping[str, tuple[str, ...]] = {
    MAIN: ALGORITHMS,
    "rsa-only": ("RS256", "PS256"),
    "ec-only": ("ES256", "ES384", "ES512"),
    "p521": ("ES512",) * 6,
}
"""Every second P-521 coordinate starts with a zero byte: twelve keys hardly ever go without one (C10, C11)."""

RSA_BITS = {MAIN: 2048, "rsa-only": 3072}
REFUSED = ("expired", "tampered", "forged", "unknown_kid", "wrong_audience")
_ECDSA = ("ES256", "ES384", "ES512")
_MOST_SIGNATURES = 4000


def header_of(token: str) -> dict[str, Any]:
    """Return the header of a token, unverified."""
    return dict(json.loads(decode(token.split(".", maxsplit=1)[0])))


def signature_of(token: str) -> bytes:
    """Return the signature of a token."""
    return decode(token.rsplit(".", 1)[1])


class Realm:
    """The service and its issuers.

    Args:
        channel: To its gRPC listener.
        http: Address of its public listener.
        config: Its configuration file.
        ca: What the certificate of its public listener chains to; empty: it speaks plaintext.
    """

    def __init__(self, channel: grpc.Channel, http: str, config: str, ca: str = "") -> None:
        self.http = http
        self.config = config
        self.ca = ca
        self._tls = ssl.create_default_context(cafile=ca) if ca else None
        self._signing = SigningServiceStub(channel)
        self.keys = KeyServiceStub(channel)

    def url(self, issuer: str = MAIN) -> str:
        """Return where the JWK Set is served."""
        return f"{'https' if self.ca else 'http'}://{self.http}/{issuer}/.well-known/jwks.json"

    def fetch(self, issuer: str = MAIN) -> bytes:
        """Return the JWK Set as it is served."""
        return self.read(self.url(issuer))

    def pem(self, issuer: str, kid: str) -> bytes:
        """Return a public key as it is served."""
        return self.read(self.url(issuer).replace("/.well-known/jwks.json", f"/keys/{kid}.pem"))

    def read(self, url: str) -> bytes:
        """Return what the public listener serves."""
        with urllib.request.urlopen(url, timeout=10, context=self._tls) as answer:  # noqa: S310 - our service, on loopback
            return bytes(answer.read())

    def published(self, issuer: str = MAIN) -> list[dict[str, str]]:
        """Return the keys of the JWK Set."""
        return list(json.loads(self.fetch(issuer))["keys"])

    def sign(
        self, algorithm: str, issuer: str = MAIN, *, audience: str = AUDIENCE, lifetime: int = 600, token_type: str = ""
    ) -> SignJwtResponse:
        """Sign a token."""
        request = SignJwtRequest(
            issuer=f"issuers/{issuer}",
            claims_json=CLAIMS,
            subject=SUBJECT,
            audience=[audience],
            algorithm=algorithm,
            token_type=token_type,
        )
        request.lifetime.FromSeconds(lifetime)
        response: SignJwtResponse = self._signing.SignJwt(request, timeout=30)
        return response

    def sign_narrow(self, algorithm: str) -> str:
        """Sign until r or s starts with a zero byte, which those drop who take it for a plain integer (C01)."""
        for _ in range(_MOST_SIGNATURES):
            token = self.sign(algorithm).token
            signature = signature_of(token)
            if not signature[0] or not signature[len(signature) // 2]:
                return token
        raise AssertionError(f"{_MOST_SIGNATURES} signatures of {algorithm}, and none with a short r or s")


def issuer_url(issuer: str = MAIN) -> str:
    """Return the `iss` of an issuer; `support.document` makes it so."""
    return f"https://id.example.com/{issuer}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Tokens by what is done to them, then by algorithm.

    Attributes:
        good: To be taken.
        narrow: To be taken; ECDSA signatures with a leading zero in r or s.
        refused: To be refused, by why (`REFUSED`).
    """

    good: Mapping[str, str]
    narrow: Mapping[str, str]
    refused: Mapping[str, Mapping[str, str]]

    def named(self) -> dict[str, str]:
        """Return all of them, each under `why/algorithm`."""
        kinds = {"good": self.good, "narrow": self.narrow, **self.refused}
        return {f"{kind}/{algorithm}": token for kind, group in kinds.items() for algorithm, token in group.items()}


def make_tokens(realm: Realm) -> Tokens:
    """Sign, tamper, forge, and wait until what shall have expired has."""
    short = {a: realm.sign(a, lifetime=1) for a in ALGORITHMS}
    good = {a: realm.sign(a).token for a in ALGORITHMS}
    stranger = Stranger()
    tokens = Tokens(
        good=good,
        narrow={a: realm.sign_narrow(a) for a in _ECDSA},
        refused={
            "expired": {a: s.token for a, s in short.items()},
            "tampered": {a: _tampered(t) for a, t in good.items()},
            "forged": {a: stranger.sign(t, header_of(t)["kid"]) for a, t in good.items()},
            "unknown_kid": {a: stranger.sign(t, "nobody") for a, t in good.items()},
            "wrong_audience": {a: realm.sign(a, audience="https://other.example.com").token for a in ALGORITHMS},
        },
    )
    # Some verifiers still take a token in the very second of its exp.
    over = max(s.expire_time.seconds for s in short.values()) + 1
    time.sleep(max(0.0, over - time.time()))
    return tokens


def _tampered(token: str) -> str:
    signed, _, _ = token.rpartition(".")
    signature = bytearray(signature_of(token))
    signature[len(signature) // 3] ^= 1
    return f"{signed}.{encode(bytes(signature))}"
