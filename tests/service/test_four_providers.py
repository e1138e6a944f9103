"""One issuer with keys on all four kinds of provider: other libraries verify its tokens, and providers replace each other."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet
from jwt.utils import base64url_decode

from interop import go_support, node_support
from sealwright_testing.emulators.azure import AzureEmulator
from support.document import document, issuer, series
from support.four_providers import FAULTS, PROVIDERS, FourProviders, azure_settings, four_providers
from support.service import Service, audit_records, failure, running, until

COMMON = {"aws": "ES256", "gcp": "ES384", "azure": "RS256", "pkcs11": "PS256"}
"""An algorithm that every verifier has, by provider."""
RARE = {"aws": "EdDSA", "azure": "ES512", "gcp": "ML-DSA-65", "pkcs11": "HS256"}
"""Algorithms that are not in every verifier."""
AUDIENCE = "https://api.example.com"
ISSUER = "https://id.example.com/payments"
SCHEMES = {"aws": "awskms:///", "gcp": "gcpkms://", "azure": "azurekms://", "pkcs11": "pkcs11:"}


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FourProviders]:
    with four_providers(tmp_path_factory.mktemp("faults")) as four:
        yield four


@pytest.fixture
def four(backends: FourProviders) -> Iterator[FourProviders]:
    yield backends
    backends.mend()


def on_four(directory: Path, four: FourProviders, *issuers: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the configuration of a service with all four providers."""
    return document(directory, "", *issuers, providers=four.settings(directory, **more))


class Signed:
    """A service with an issuer on four providers, and a token of each."""

    def __init__(self, service: Service, tokens: Mapping[str, str]) -> None:
        self.service = service
        self.tokens = tokens
        self.url = f"http://{service.app.addresses['http']}/payments/.well-known/jwks.json"

    async def key_set(self) -> dict[str, Any]:
        """Return the JWK Set as it is served."""
        return dict(json.loads((await self.service.get("/payments/.well-known/jwks.json"))[2]))

    def job(self) -> dict[str, Any]:
        """Return a job for the verifiers in other languages."""
        return {
            "url": self.url,
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "algorithms": list(COMMON.values()),
            "tokens": self.tokens,
        }

    async def assert_judged(self, answer: Mapping[str, Any]) -> None:
        """Check that a verifier in another language read all keys and verified all tokens."""
        assert sorted(answer["keys"]) == sorted(k["kid"] for k in (await self.key_set())["keys"])
        assert {p: r.get("claims", r).get("sub") for p, r in answer["results"].items()} == dict.fromkeys(COMMON, "42")


@pytest_asyncio.fixture
async def signed(tmp_path: Path, four: FourProviders) -> AsyncIterator[Signed]:
    """Sign with a key of each provider."""
    made = [series(a, provider=p) for p, a in COMMON.items()]
    one = issuer("payments", mixed_key_types=True, series=made)
    async with running(on_four(tmp_path, four, one)) as service:
        tokens = {}
        uris = {k.kid: k.key_uri for k in await service.list_keys()}
        for provider, algorithm in COMMON.items():
            answer = await service.sign(algorithm=algorithm, subject="42", audience=[AUDIENCE])
            assert uris[answer.kid].startswith(SCHEMES[provider])
            tokens[provider] = answer.token
        yield Signed(service, tokens)


async def test_pyjwt_verifies_the_tokens_of_all_four(signed: Signed) -> None:
    keys = jwt.PyJWKSet.from_dict(await signed.key_set())
    assert len(keys.keys) == 8
    for provider, token in signed.tokens.items():
        key = keys[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(token, key, [COMMON[provider]], audience=AUDIENCE, issuer=ISSUER)
        assert claims["sub"] == "42"


async def test_joserfc_verifies_the_tokens_of_all_four(signed: Signed) -> None:
    served: Any = await signed.key_set()
    keys = KeySet.import_key_set(served)
    assert len(keys.keys) == 8
    for provider, token in signed.tokens.items():
        decoded = joserfc_jwt.decode(token, keys, algorithms=[COMMON[provider]])
        assert (decoded.claims["iss"], decoded.claims["sub"]) == (ISSUER, "42")


async def test_jose_verifies_the_tokens_of_all_four(signed: Signed) -> None:
    node = await asyncio.to_thread(node_support.install)
    await signed.assert_judged(await asyncio.to_thread(node.run, "jose", signed.job()))


async def test_golang_jwt_verifies_the_tokens_of_all_four(signed: Signed) -> None:
    go = await asyncio.to_thread(go_support.install)
    await signed.assert_judged(await asyncio.to_thread(go.run, signed.job()))


async def test_golang_jwt_refuses_a_token_that_was_changed(signed: Signed) -> None:
    go = await asyncio.to_thread(go_support.install)
    changed = {}
    for provider, token in signed.tokens.items():
        head, payload, signature = token.split(".")
        middle = len(signature) // 2
        changed[provider] = (
            f"{head}.{payload}.{signature[:middle]}{'BA'[signature[middle] == 'B']}{signature[middle + 1 :]}"
        )
    answer = await asyncio.to_thread(go.run, signed.job() | {"tokens": changed})
    assert ["signature is invalid" in r["error"] for r in answer["results"].values()] == [True] * 4


async def test_the_set_says_nothing_about_the_providers(signed: Signed) -> None:
    served = await signed.key_set()
    assert {name for key in served["keys"] for name in key} == {"kty", "use", "alg", "kid", "crv", "x", "y", "n", "e"}
    # Not shorter words, since base64url may contain them by chance.
    assert not any(word in json.dumps(served) for word in (*SCHEMES.values(), "localhost", "cryptoKey", "eu-west-1"))


async def test_rare_algorithms_of_all_four_verify_too(tmp_path: Path, four: FourProviders) -> None:
    made = [series(a, provider=p) for p, a in RARE.items()]
    one = issuer("payments", mixed_key_types=True, series=made)
    async with running(on_four(tmp_path, four, one)) as service:
        published = await service.published()
        assert sorted(k["kty"] for k in published.values()) == ["AKP", "AKP", "EC", "EC", "OKP", "OKP"]
        for provider, algorithm in RARE.items():
            answer = await service.sign(algorithm=algorithm)
            if provider == "pkcs11":
                assert answer.kid not in published
            elif provider == "gcp":
                verify_ml_dsa(answer.token, published[answer.kid])
            else:
                await service.verify(answer.token)


async def test_a_managed_hsm_stands_beside_a_vault(tmp_path: Path, four: FourProviders) -> None:
    secret = tmp_path / "managed-hsm"
    secret.mkdir()
    async with AzureEmulator(managed_hsm=True) as emulator:
        providers = four.settings(tmp_path) | {"managed-hsm": azure_settings(emulator, secret)}
        made = [series(a, provider="managed-hsm") for a in ("RS256", "PS512", "ES256", "HS384")]
        made.append(series("ES256", name="vault", provider="azure", protection="hsm"))
        async with running(document(tmp_path, "", issuer("payments", series=made), providers=providers)) as service:
            provider_of = {k.kid: k.provider for k in await service.list_keys()}
            for algorithm in ("RS256", "PS512", "ES256"):
                answer = await service.sign(algorithm=algorithm)
                assert provider_of[answer.kid] == "managed-hsm"
                await service.verify(answer.token)
            secret_answer = await service.sign(algorithm="HS384")
            assert provider_of[secret_answer.kid] == "managed-hsm"
            assert secret_answer.kid not in await service.published()
            emulator.add_fault("http_500", operation="Sign")
            assert provider_of[(await service.sign(algorithm="ES256")).kid] == "azure"


def verify_ml_dsa(token: str, key: Mapping[str, str]) -> None:
    """Verify a token with cryptography, since PyJWT 2.15 reads no AKP keys."""
    signing_input, _, signature = token.rpartition(".")
    public = MLDSA65PublicKey.from_public_bytes(base64url_decode(key["pub"]))
    public.verify(base64url_decode(signature), signing_input.encode())


def in_each_order() -> list[dict[str, Any]]:
    """Return four issuers with ES256 on all four providers, in HSMs but for SoftHSM. Each begins with another provider."""
    made = []
    for turn, first in enumerate(PROVIDERS):
        order = [*PROVIDERS[turn:], *PROVIDERS[:turn]]
        kept = {p: {} if p == "pkcs11" else {"protection": "hsm"} for p in PROVIDERS}
        made.append(issuer(f"{first}-first", series=[series("ES256", name=p, provider=p, **kept[p]) for p in order]))
    return made


def chain(one: dict[str, Any]) -> list[str]:
    """Return the providers that sign for an issuer, in turn: keys in software do not stand in for keys in HSMs."""
    order = [s["provider"] for s in one["series"]]
    return [p for p in order if order[0] == "pkcs11" or p != "pkcs11"]


CODES = {
    "aws": "AccessDeniedException, request ",
    "gcp": "PERMISSION_DENIED, IAM_PERMISSION_DENIED",
    "azure": "HTTP status 403, Forbidden",
    "pkcs11": "0x1b",
}
"""What the log says of a denied call, by provider."""


async def test_f25_the_log_names_the_code_of_each_kms(
    tmp_path: Path, four: FourProviders, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    made = [issuer(p, series=[series("ES256", provider=p)]) for p in PROVIDERS]
    async with running(on_four(tmp_path, four, *made)) as service:
        for provider in PROVIDERS:
            four.break_(provider, "denied")
            assert (await failure(service.sign(issuer=provider))).reason == "PROVIDER_ACCESS_DENIED"
    for provider, code in CODES.items():
        (line,) = {
            m for m in caplog.messages if m.startswith(f"provider {provider}: sign failed: PROVIDER_ACCESS_DENIED")
        }
        assert code in line
        assert not any(word in line for word in ("arn:", "localhost", "cryptoKey", "not authorized"))


@pytest.mark.parametrize("fault", list(FAULTS))
async def test_the_next_provider_signs_when_the_ones_before_it_fail(
    tmp_path: Path, four: FourProviders, fault: str
) -> None:
    issuers = in_each_order()
    config = on_four(tmp_path, four, *issuers, timeout="1s")
    async with running(config) as service:
        for one in issuers:
            name, order = one["name"], chain(one)
            published = await service.published(name)
            provider_of = {k.kid: k.provider for k in await service.list_keys(name)}
            assert set(provider_of) == set(published)
            for down, provider in enumerate(order):
                signing = (service.sign(issuer=name, timeout=5) for _ in range(4))
                answers = await asyncio.gather(*signing)
                assert {provider_of[a.kid] for a in answers} == {provider}, (fault, order[:down])
                await asyncio.gather(*(service.verify(a.token, name) for a in answers))
                if down < len(order) - 1:
                    four.break_(provider, fault)
            assert await service.published(name) == published
            four.mend()
            # A breaker that opened permits a call again after a second.
            await until(lambda: _all_sign(service))
        records = audit_records(config, "sign")
        assert {r["outcome"] for r in records} == {"allowed"}
        for record in records:
            order = chain(next(i for i in issuers if i["name"] == record["issuer"]))
            before = [text.partition(":")[0] for text in record.get("passed_over", [])]
            assert order[: order.index(record["provider"])] == [p for p in before if p in order]


async def test_only_when_all_fail_that_may_sign_does_the_caller_see_an_error(
    tmp_path: Path, four: FourProviders
) -> None:
    for one in (in_each_order()[0], in_each_order()[-1]):
        directory = tmp_path / one["name"]
        directory.mkdir()
        config = on_four(directory, four, one)
        async with running(config) as service:
            for provider in chain(one):
                await service.sign(issuer=one["name"])
                four.break_(provider, "denied")
            refused = await failure(service.sign(issuer=one["name"]))
            assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "PROVIDER_ACCESS_DENIED")
            record = audit_records(config, "sign")[-1]
            reasons = {p: "PROVIDER_ACCESS_DENIED" if p in chain(one) else "LOWER_PROTECTION" for p in PROVIDERS}
            assert sorted(record["passed_over"]) == sorted(f"{p}: {reason}" for p, reason in reasons.items())
            four.mend()
            await service.verify((await service.sign(issuer=one["name"])).token, one["name"])


async def _all_sign(service: Service) -> bool:
    """Tell whether each provider signs for the issuer that begins with it."""
    for provider in PROVIDERS:
        name = f"{provider}-first"
        kid = (await service.sign(issuer=name)).kid
        if next(k.provider for k in await service.list_keys(name) if k.kid == kid) != provider:
            return False
    return True
