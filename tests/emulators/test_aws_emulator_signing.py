from __future__ import annotations

import asyncio
import hashlib
import hmac
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import load_der_public_key

from emulators.aws_support import Signer, post
from sealwright_testing.emulators.aws import ed25519ph

if TYPE_CHECKING:
    from emulators.aws_support import Kms
    from sealwright_testing.emulators.aws import AwsEmulator

MESSAGE = b"eyJhbGciOiJFUzI1NiJ9.e30"
HASHES: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
RSA_ALGORITHMS = [f"RSASSA_{form}_SHA_{bits}" for form in ("PSS", "PKCS1_V1_5") for bits in HASHES]
EC_KEYS = [
    ("ECC_NIST_P256", "ECDSA_SHA_256"),
    ("ECC_NIST_P384", "ECDSA_SHA_384"),
    ("ECC_NIST_P521", "ECDSA_SHA_512"),
    ("ECC_SECG_P256K1", "ECDSA_SHA_256"),
]


def digest(algorithm: str, message: bytes = MESSAGE) -> bytes:
    return hashlib.new(f"sha{algorithm[-3:]}", message).digest()


async def public_key(kms: Kms, arn: str) -> Any:
    return load_der_public_key((await kms("get_public_key", KeyId=arn))["PublicKey"])


def check(public: Any, algorithm: str, signature: bytes, message: bytes = MESSAGE) -> None:
    chosen = HASHES[algorithm[-3:]]
    if isinstance(public, rsa.RSAPublicKey):
        pss = padding.PSS(padding.MGF1(chosen), chosen.digest_size)
        public.verify(signature, message, pss if "PSS" in algorithm else padding.PKCS1v15(), chosen)
    else:
        public.verify(signature, message, ec.ECDSA(chosen))


@pytest.fixture(params=["RAW", "DIGEST"])
def message_type(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("algorithm", RSA_ALGORITHMS)
async def test_c30_rsa_signs_with_a_salt_as_long_as_the_hash(kms: Kms, algorithm: str, message_type: str) -> None:
    arn = await kms.key("RSA_2048")
    message = MESSAGE if message_type == "RAW" else digest(algorithm)
    answer = await kms("sign", KeyId=arn, Message=message, MessageType=message_type, SigningAlgorithm=algorithm)
    assert (answer["KeyId"], answer["SigningAlgorithm"], len(answer["Signature"])) == (arn, algorithm, 256)
    check(await public_key(kms, arn), algorithm, answer["Signature"])


@pytest.mark.parametrize(("spec", "algorithm"), EC_KEYS)
async def test_c47_ecdsa_gives_der_and_does_not_hash_a_digest_again(
    kms: Kms, spec: str, algorithm: str, message_type: str
) -> None:
    arn = await kms.key(spec)
    message = MESSAGE if message_type == "RAW" else digest(algorithm)
    answer = await kms("sign", KeyId=arn, Message=message, MessageType=message_type, SigningAlgorithm=algorithm)
    r, s = utils.decode_dss_signature(answer["Signature"])
    assert r > 0 < s
    check(await public_key(kms, arn), algorithm, answer["Signature"])


@pytest.mark.parametrize(("spec", "size"), [("RSA_3072", 384), ("RSA_4096", 512)])
async def test_larger_rsa_keys_have_their_size(kms: Kms, spec: str, size: int) -> None:
    arn = await kms.key(spec)
    answer = await kms("sign", KeyId=arn, Message=MESSAGE, SigningAlgorithm="RSASSA_PSS_SHA_512")
    assert len(answer["Signature"]) == size
    check(await public_key(kms, arn), "RSASSA_PSS_SHA_512", answer["Signature"])


async def test_c37_ed25519_signs_raw_messages_only(kms: Kms) -> None:
    arn = await kms.key("ECC_NIST_EDWARDS25519")
    request = {"KeyId": arn, "SigningAlgorithm": "ED25519_SHA_512"}
    answer = await kms("sign", Message=MESSAGE, MessageType="RAW", **request)
    public = await public_key(kms, arn)
    assert isinstance(public, ed25519.Ed25519PublicKey)
    public.verify(answer["Signature"], MESSAGE)
    refusal = await kms.refusal("sign", Message=bytes(64), MessageType="DIGEST", **request)
    assert refusal.code == "ValidationException"
    assert refusal.message == "Message type DIGEST is incompatible with algorithm ED25519_SHA_512."


async def test_c37_ed25519ph_signs_digests_only_and_is_no_jws_eddsa(kms: Kms) -> None:
    arn = await kms.key("ECC_NIST_EDWARDS25519")
    request = {"KeyId": arn, "SigningAlgorithm": "ED25519_PH_SHA_512"}
    hashed = digest("_512")
    signature = (await kms("sign", Message=hashed, MessageType="DIGEST", **request))["Signature"]
    public = await public_key(kms, arn)
    assert ed25519ph.verify(public.public_bytes_raw(), signature, hashed)
    for message in (MESSAGE, hashed):
        with pytest.raises(InvalidSignature):
            public.verify(signature, message)
    assert await kms.code("sign", Message=MESSAGE, MessageType="RAW", **request) == "ValidationException"
    assert await kms.code("sign", Message=hashed[:32], MessageType="DIGEST", **request) == "ValidationException"
    answer = await kms("verify", Message=hashed, MessageType="DIGEST", Signature=signature, **request)
    assert answer["SignatureValid"] is True
    code = await kms.code("verify", Message=bytes(64), MessageType="DIGEST", Signature=signature, **request)
    assert code == "KMSInvalidSignatureException"


def test_ed25519ph_gives_the_vector_of_rfc_8032() -> None:
    seed = bytes.fromhex("833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42")
    signature = (
        "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41"
        "31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406"
    )
    public = ed25519.Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    assert ed25519ph.sign(seed, b"abc").hex() == signature
    assert ed25519ph.verify(public, bytes.fromhex(signature), b"abc")
    assert not ed25519ph.verify(public, bytes.fromhex(signature), b"abd")
    assert not ed25519ph.verify(public, bytes(63), b"abc")
    assert not ed25519ph.verify(public, bytes.fromhex(signature)[:32] + b"\xff" * 32, b"abc")
    assert not ed25519ph.verify(b"\xff" * 32, bytes.fromhex(signature), b"abc")


@pytest.mark.parametrize(
    ("spec", "algorithm"),
    [
        ("RSA_2048", "RSASSA_PKCS1_V1_5_SHA_256"),
        ("ECC_NIST_P256", "ECDSA_SHA_256"),
        ("ECC_NIST_EDWARDS25519", "ED25519_SHA_512"),
        ("ML_DSA_44", "ML_DSA_SHAKE_256"),
    ],
)
async def test_c45_raw_messages_have_1_to_4096_bytes(kms: Kms, spec: str, algorithm: str) -> None:
    request = {"KeyId": await kms.key(spec), "SigningAlgorithm": algorithm}
    for size in (1, 4095, 4096):
        assert (await kms("sign", Message=bytes(size), **request))["Signature"]
    for size in (0, 4097, 8192):
        assert await kms.code("sign", Message=bytes(size), **request) == "ValidationException"


@pytest.mark.parametrize("algorithm", RSA_ALGORITHMS)
async def test_c46_the_length_of_a_digest_is_that_of_the_hash(kms: Kms, algorithm: str) -> None:
    right = HASHES[algorithm[-3:]].digest_size
    request = {"KeyId": await kms.key("RSA_2048"), "MessageType": "DIGEST", "SigningAlgorithm": algorithm}
    for size in {20, 31, 32, 33, 48, 64} - {right}:
        refusal = await kms.refusal("sign", Message=bytes(size), **request)
        assert refusal.code == "ValidationException"
        assert refusal.message == f"Digest is invalid length for algorithm {algorithm}."
    assert (await kms("sign", Message=bytes(right), **request))["Signature"]


@pytest.mark.parametrize("spec", [spec for spec, _ in EC_KEYS] + ["ECC_NIST_EDWARDS25519", "RSA_2048", "ML_DSA_65"])
async def test_c32_only_the_algorithms_of_the_key_sign(kms: Kms, spec: str) -> None:
    arn = await kms.key(spec)
    fitting = (await kms("get_public_key", KeyId=arn))["SigningAlgorithms"]
    others = {*RSA_ALGORITHMS, *(a for _, a in EC_KEYS), "ED25519_SHA_512", "SM2DSA", "ML_DSA_SHAKE_256"}
    for algorithm in sorted(others - set(fitting)):
        refusal = await kms.refusal("sign", KeyId=arn, Message=MESSAGE, SigningAlgorithm=algorithm)
        assert refusal.code == "InvalidKeyUsageException"
        assert refusal.message == f"Algorithm {algorithm} is incompatible with key spec {spec}."


@pytest.mark.parametrize("algorithm", ["RS256", "HS256", "none", "", "ECDSA_SHA_256 "])
async def test_c33_unknown_algorithms_are_refused(kms: Kms, algorithm: str) -> None:
    code = await kms.code("sign", KeyId=await kms.key(), Message=MESSAGE, SigningAlgorithm=algorithm)
    assert code == "ValidationException"


@pytest.mark.parametrize("spec", ["ML_DSA_44", "ML_DSA_65", "ML_DSA_87"])
async def test_ml_dsa_signs_messages_and_their_representatives(kms: Kms, spec: str) -> None:
    request = {"KeyId": await kms.key(spec), "SigningAlgorithm": "ML_DSA_SHAKE_256"}
    public = await public_key(kms, request["KeyId"])
    hasher = mldsa.MLDSAMuHasher(public)
    hasher.update(MESSAGE)
    mu = hasher.finalize()
    for message, message_type in ((MESSAGE, "RAW"), (mu, "EXTERNAL_MU")):
        answer = await kms("sign", Message=message, MessageType=message_type, **request)
        public.verify(answer["Signature"], MESSAGE)
        for again, its_type in ((MESSAGE, "RAW"), (mu, "EXTERNAL_MU")):
            checked = await kms("verify", Message=again, MessageType=its_type, Signature=answer["Signature"], **request)
            assert checked["SignatureValid"] is True
        wrong = {"Message": bytes(64), "MessageType": message_type, "Signature": answer["Signature"]}
        assert await kms.code("verify", **wrong, **request) == "KMSInvalidSignatureException"


@pytest.mark.parametrize("size", [1, 32, 63, 65, 128])
async def test_a_representative_has_64_bytes(kms: Kms, size: int) -> None:
    request = {"KeyId": await kms.key("ML_DSA_44"), "SigningAlgorithm": "ML_DSA_SHAKE_256"}
    assert await kms.code("sign", Message=bytes(size), MessageType="EXTERNAL_MU", **request) == "ValidationException"
    assert (await kms("sign", Message=bytes(64), MessageType="EXTERNAL_MU", **request))["Signature"]


async def test_ml_dsa_signs_no_digest(kms: Kms) -> None:
    request = {"KeyId": await kms.key("ML_DSA_44"), "SigningAlgorithm": "ML_DSA_SHAKE_256", "MessageType": "DIGEST"}
    for size in (32, 64):
        refusal = await kms.refusal("sign", Message=bytes(size), **request)
        assert refusal.code == "ValidationException"
        assert refusal.message == "Message type DIGEST is incompatible with algorithm ML_DSA_SHAKE_256."


@pytest.mark.parametrize(
    ("spec", "algorithm"),
    [*EC_KEYS, ("RSA_2048", "RSASSA_PSS_SHA_512"), ("ECC_NIST_EDWARDS25519", "ED25519_SHA_512")],
)
async def test_only_ml_dsa_signs_representatives(kms: Kms, spec: str, algorithm: str) -> None:
    request = {"KeyId": await kms.key(spec), "SigningAlgorithm": algorithm}
    assert await kms.code("sign", Message=bytes(64), MessageType="EXTERNAL_MU", **request) == "ValidationException"


@pytest.mark.parametrize("message_type", ["EXTERNAL_MU", "BOGUS", "raw"])
async def test_other_message_types_are_refused(kms: Kms, message_type: str) -> None:
    code = await kms.code(
        "sign", KeyId=await kms.key(), Message=bytes(64), MessageType=message_type, SigningAlgorithm="ECDSA_SHA_256"
    )
    assert code == "ValidationException"


@pytest.mark.parametrize(
    ("spec", "usage"),
    [
        ("HMAC_256", "GENERATE_VERIFY_MAC"),
        ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"),
        ("RSA_2048", "ENCRYPT_DECRYPT"),
        ("ECC_NIST_P256", "KEY_AGREEMENT"),
    ],
)
async def test_keys_for_something_else_do_not_sign(kms: Kms, spec: str, usage: str) -> None:
    arn = await kms.key(spec, usage)
    refusal = await kms.refusal("sign", KeyId=arn, Message=MESSAGE, SigningAlgorithm="ECDSA_SHA_256")
    assert refusal.code == "InvalidKeyUsageException"
    assert refusal.message == f"{arn} key usage is {usage} which is not valid for Sign."


async def test_keys_that_sign_compute_no_mac(kms: Kms) -> None:
    code = await kms.code("generate_mac", KeyId=await kms.key(), Message=MESSAGE, MacAlgorithm="HMAC_SHA_256")
    assert code == "InvalidKeyUsageException"


async def test_the_answer_names_the_arn_however_the_key_was_named(kms: Kms) -> None:
    arn = await kms.key()
    await kms("create_alias", AliasName="alias/signer", TargetKeyId=arn)
    prefix, _, key_id = arn.rpartition(":key/")
    for reference in (arn, key_id, "alias/signer", f"{prefix}:alias/signer"):
        answer = await kms("sign", KeyId=reference, Message=MESSAGE, SigningAlgorithm="ECDSA_SHA_256")
        assert answer["KeyId"] == arn
        assert (await kms("get_public_key", KeyId=reference))["KeyId"] == arn


async def test_c52_an_alias_that_moved_signs_with_the_new_key_and_says_so(kms: Kms) -> None:
    first, second = await kms.key(), await kms.key()
    await kms("create_alias", AliasName="alias/s", TargetKeyId=first)
    await kms("update_alias", AliasName="alias/s", TargetKeyId=second)
    answer = await kms("sign", KeyId="alias/s", Message=MESSAGE, SigningAlgorithm="ECDSA_SHA_256")
    assert answer["KeyId"] == second
    check(await public_key(kms, second), "ECDSA_SHA_256", answer["Signature"])


@pytest.mark.parametrize(("spec", "algorithm"), [("RSA_2048", "RSASSA_PSS_SHA_256"), *EC_KEYS[:1]])
async def test_verify_says_yes_or_raises(kms: Kms, spec: str, algorithm: str) -> None:
    request = {"KeyId": await kms.key(spec), "SigningAlgorithm": algorithm}
    signature = (await kms("sign", Message=MESSAGE, **request))["Signature"]
    answer = await kms("verify", Message=MESSAGE, Signature=signature, **request)
    assert (answer["SignatureValid"], answer["KeyId"]) == (True, request["KeyId"])
    hashed = await kms("verify", Message=digest(algorithm), MessageType="DIGEST", Signature=signature, **request)
    assert hashed["SignatureValid"] is True
    for message, given in ((b"other", signature), (MESSAGE, signature[:-1]), (MESSAGE, b"\0")):
        code = await kms.code("verify", Message=message, Signature=given, **request)
        assert code == "KMSInvalidSignatureException"


async def test_ed25519_verifies(kms: Kms) -> None:
    request = {"KeyId": await kms.key("ECC_NIST_EDWARDS25519"), "SigningAlgorithm": "ED25519_SHA_512"}
    signature = (await kms("sign", Message=MESSAGE, **request))["Signature"]
    assert (await kms("verify", Message=MESSAGE, Signature=signature, **request))["SignatureValid"] is True
    assert await kms.code("verify", Message=b"x", Signature=signature, **request) == "KMSInvalidSignatureException"


async def test_a_dry_run_ends_where_it_would_have_succeeded(kms: Kms) -> None:
    arn, mac_arn = await kms.key(), await kms.key("HMAC_256", "GENERATE_VERIFY_MAC")
    request = {"KeyId": arn, "Message": MESSAGE, "SigningAlgorithm": "ECDSA_SHA_256"}
    assert await kms.code("sign", DryRun=True, **request) == "DryRunOperationException"
    mac_request = {"KeyId": mac_arn, "Message": MESSAGE, "MacAlgorithm": "HMAC_SHA_256"}
    assert await kms.code("generate_mac", DryRun=True, **mac_request) == "DryRunOperationException"
    await kms("disable_key", KeyId=arn)
    assert await kms.code("sign", DryRun=True, **request) == "DisabledException"


@pytest.mark.parametrize("bits", [224, 256, 384, 512])
async def test_hmac_keys_compute_and_verify_their_one_mac(kms: Kms, emulator: AwsEmulator, bits: int) -> None:
    arn = await kms.key(f"HMAC_{bits}", "GENERATE_VERIFY_MAC")
    request = {"KeyId": arn, "Message": MESSAGE, "MacAlgorithm": f"HMAC_SHA_{bits}"}
    answer = await kms("generate_mac", **request)
    key = emulator.store.find(arn)
    assert key is not None
    assert isinstance(key.material, bytes)
    assert answer["Mac"] == hmac.digest(key.material, MESSAGE, f"sha{bits}")
    assert (answer["KeyId"], answer["MacAlgorithm"]) == (arn, f"HMAC_SHA_{bits}")
    assert (await kms("verify_mac", Mac=answer["Mac"], **request))["MacValid"] is True
    assert await kms.code("verify_mac", Mac=answer["Mac"][:-1], **request) == "KMSInvalidMacException"
    other = "HMAC_SHA_256" if bits != 256 else "HMAC_SHA_384"
    assert await kms.code("generate_mac", **request | {"MacAlgorithm": other}) == "InvalidKeyUsageException"
    assert await kms.code("generate_mac", **request | {"MacAlgorithm": "HS256"}) == "ValidationException"


async def test_macs_are_of_1_to_4096_bytes(kms: Kms) -> None:
    request = {"KeyId": await kms.key("HMAC_256", "GENERATE_VERIFY_MAC"), "MacAlgorithm": "HMAC_SHA_256"}
    assert (await kms("generate_mac", Message=bytes(4096), **request))["Mac"]
    for size in (0, 4097):
        assert await kms.code("generate_mac", Message=bytes(size), **request) == "ValidationException"


@pytest.mark.parametrize(
    ("spec", "usage"), [("HMAC_256", "GENERATE_VERIFY_MAC"), ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT")]
)
async def test_symmetric_keys_have_no_public_key(kms: Kms, spec: str, usage: str) -> None:
    assert await kms.code("get_public_key", KeyId=await kms.key(spec, usage)) == "UnsupportedOperationException"


async def test_the_public_key_comes_with_what_it_is_for(kms: Kms) -> None:
    answer = await kms("get_public_key", KeyId=await kms.key("ECC_NIST_P384"))
    assert (answer["KeySpec"], answer["KeyUsage"]) == ("ECC_NIST_P384", "SIGN_VERIFY")
    assert answer["SigningAlgorithms"] == ["ECDSA_SHA_384"]
    assert "EncryptionAlgorithms" not in answer


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"KeyId": 1, "Message": "AA==", "SigningAlgorithm": "ECDSA_SHA_256"}',
        b'{"KeyId": "x", "Message": "?", "SigningAlgorithm": "ECDSA_SHA_256"}',
        b'{"KeyId": "x", "Message": 1, "SigningAlgorithm": "ECDSA_SHA_256"}',
    ],
)
async def test_bodies_that_cannot_be_read_are_refused(emulator: AwsEmulator, body: bytes) -> None:
    host = emulator.endpoint.removeprefix("http://")
    status, answer = await post(emulator.endpoint, Signer().sign(host, "Sign", body), body)
    assert (status, answer["__type"]) == (400, "SerializationException")


async def test_absent_parameters_are_refused(emulator: AwsEmulator) -> None:
    host, body = emulator.endpoint.removeprefix("http://"), b'{"SigningAlgorithm": "ECDSA_SHA_256", "Message": "AA=="}'
    status, answer = await post(emulator.endpoint, Signer().sign(host, "Sign", body), body)
    assert (status, answer["__type"]) == (400, "ValidationException")
    assert "'keyId' failed to satisfy constraint: Member must not be null" in answer["message"]


async def test_slow_key_generation_does_not_keep_others_waiting(emulator: AwsEmulator, kms: Kms) -> None:
    arn = await kms.key()
    slow = [asyncio.create_task(kms.key("RSA_4096")) for _ in range(2)]
    while not all(task.done() for task in slow):
        await kms("sign", KeyId=arn, Message=MESSAGE, SigningAlgorithm="ECDSA_SHA_256")
    await asyncio.gather(*slow)
    # If the loop were blocked, only one or two would have been answered, between the keys.
    assert emulator.calls["Sign"] > 5
