"""Operations that use a key."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from sealwright_testing.emulators.aws import signing
from sealwright_testing.emulators.aws.errors import AwsError, invalid, invalid_usage
from sealwright_testing.emulators.aws.faults import FaultKind
from sealwright_testing.emulators.aws.params import MAX_SIGNATURE
from sealwright_testing.emulators.aws.specs import (
    MU_BYTES,
    SIGNING_ALGORITHMS,
    KeyUsage,
    MacAlgorithm,
    MessageType,
    SigningAlgorithm,
    algorithms,
    mac_algorithm,
    message_types,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sealwright_testing.emulators.aws.keys import KmsKey
    from sealwright_testing.emulators.aws.signing import Material

    from .call import Answer, Call

T = TypeVar("T")


async def get_public_key(call: Call) -> Answer:
    """Return the public key as SubjectPublicKeyInfo DER. AWS KMS API Reference, GetPublicKey.

    A disabled key's is refused with DisabledException. For symmetric and HMAC keys the reference lists
    UnsupportedOperationException and InvalidKeyUsageException; that it is the former is not checked against AWS.
    """
    key = call.key(allow_alias=True)
    if not key.spec.is_asymmetric:
        raise AwsError("UnsupportedOperationException", f"{key.arn} key spec {key.spec} has no public key.")
    key.check_usable()
    arn, material = await _answering(call, key)
    return {
        "KeyId": arn,
        "PublicKey": signing.public_key_der(material),
        "CustomerMasterKeySpec": key.spec,
        "KeySpec": key.spec,
        "KeyUsage": key.usage,
        **algorithms(key.spec, key.usage),
    }


async def sign(call: Call) -> Answer:
    """Sign a message or digest. AWS KMS API Reference, Sign.

    Checks come in the order: parameters, key, state, usage, algorithm, length of a digest or mu, DryRun. GrantTokens and
    key policies are not looked at.
    """
    key, message, message_type, algorithm = _signing_request(call)
    _end_dry_run(call)
    arn, material = await _answering(call, key)
    signature = await _compute(key, lambda: signing.sign(material, algorithm, message, message_type))
    if call.tampering is FaultKind.TRUNCATED_SIGNATURE:
        signature = signature[:-1]
    return {"KeyId": arn, "Signature": signature, "SigningAlgorithm": algorithm}


async def verify(call: Call) -> Answer:
    """Verify a signature; a wrong one is an error. AWS KMS API Reference, Verify."""
    signature = call.params.blob("Signature", most=MAX_SIGNATURE)
    key, message, message_type, algorithm = _signing_request(call)
    if not await _compute(key, lambda: signing.verify(key.material, algorithm, message, message_type, signature)):
        raise AwsError("KMSInvalidSignatureException")
    _end_dry_run(call)
    return {"KeyId": key.arn, "SignatureValid": True, "SigningAlgorithm": algorithm}


async def generate_mac(call: Call) -> Answer:
    """Compute an HMAC. AWS KMS API Reference, GenerateMac."""
    key, message, algorithm = _mac_request(call)
    _end_dry_run(call)
    arn, material = await _answering(call, key)
    code = signing.mac(material, algorithm, message)
    if call.tampering is FaultKind.TRUNCATED_SIGNATURE:
        code = code[:-1]
    return {"KeyId": arn, "Mac": code, "MacAlgorithm": algorithm}


async def verify_mac(call: Call) -> Answer:
    """Verify an HMAC; a wrong one is an error. AWS KMS API Reference, VerifyMac."""
    code = call.params.blob("Mac", most=MAX_SIGNATURE)
    key, message, algorithm = _mac_request(call)
    if not signing.same_mac(code, signing.mac(key.material, algorithm, message)):
        raise AwsError("KMSInvalidMacException")
    _end_dry_run(call)
    return {"KeyId": key.arn, "MacValid": True, "MacAlgorithm": algorithm}


def _signing_request(call: Call) -> tuple[KmsKey, bytes, MessageType, SigningAlgorithm]:
    algorithm = call.params.required_choice("SigningAlgorithm", SigningAlgorithm)
    message_type = call.params.choice("MessageType", MessageType) or MessageType.RAW
    message = call.params.blob("Message")
    key = call.key(allow_alias=True)
    key.check_usable()
    _check_usage(call, key, KeyUsage.SIGN_VERIFY)
    if algorithm not in SIGNING_ALGORITHMS[key.spec]:
        raise invalid_usage(f"Algorithm {algorithm} is incompatible with key spec {key.spec}.")
    if message_type not in message_types(algorithm):
        raise invalid(f"Message type {message_type} is incompatible with algorithm {algorithm}.")
    if message_type is MessageType.EXTERNAL_MU and len(message) != MU_BYTES:
        raise invalid(f"Message of type {message_type} must have {MU_BYTES} bytes.")
    if message_type is MessageType.DIGEST and len(message) != algorithm.hash.digest_size:
        raise invalid(f"Digest is invalid length for algorithm {algorithm}.")
    return key, message, message_type, algorithm


def _mac_request(call: Call) -> tuple[KmsKey, bytes, MacAlgorithm]:
    algorithm = call.params.required_choice("MacAlgorithm", MacAlgorithm)
    message = call.params.blob("Message")
    key = call.key(allow_alias=True)
    key.check_usable()
    _check_usage(call, key, KeyUsage.GENERATE_VERIFY_MAC)
    if algorithm is not mac_algorithm(key.spec):
        raise invalid_usage(f"Algorithm {algorithm} is incompatible with key spec {key.spec}.")
    return key, message, algorithm


def _check_usage(call: Call, key: KmsKey, usage: KeyUsage) -> None:
    if key.usage is not usage:
        raise invalid_usage(f"{key.arn} key usage is {key.usage} which is not valid for {call.operation}.")


def _end_dry_run(call: Call) -> None:
    if call.params.flag("DryRun"):
        raise AwsError("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")


async def _answering(call: Call, key: KmsKey) -> tuple[str, Material]:
    """Return the ARN and the key material for the answer: those of the key, unless a fault replaces them."""
    if call.tampering is FaultKind.WRONG_SIGNATURE:
        return key.arn, await call.strangers.of(key.spec)
    if call.tampering is FaultKind.OTHER_NAME:
        return call.store.arn(f"key/{call.store.new_key_id(multi_region=key.multi_region)}"), key.material
    if call.tampering is FaultKind.OTHER_KEY:
        twin = call.store.twin(key)
        if twin is not None:
            return twin.arn, twin.material
        other_id = call.store.new_key_id(multi_region=key.multi_region)
        return call.store.arn(f"key/{other_id}"), await call.strangers.of(key.spec)
    return key.arn, key.material


async def _compute(key: KmsKey, work: Callable[[], T]) -> T:
    # RSA takes milliseconds, which would block all other clients. The others take little more than a change of thread.
    return await asyncio.to_thread(work) if key.spec.is_rsa else work()
