from __future__ import annotations

import json
import re
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from emulators.aws_support import control
from sealwright_testing.emulators.aws import KeyState

if TYPE_CHECKING:
    from emulators.aws_support import Kms
    from sealwright_testing.emulators.aws import AwsEmulator

SIGN = {"Message": b"m", "SigningAlgorithm": "ECDSA_SHA_256"}
DAY = 86_400
USAGES = {
    "RSA_2048": {"ENCRYPT_DECRYPT", "SIGN_VERIFY"},
    "RSA_3072": {"ENCRYPT_DECRYPT", "SIGN_VERIFY"},
    "RSA_4096": {"ENCRYPT_DECRYPT", "SIGN_VERIFY"},
    "ECC_NIST_P256": {"SIGN_VERIFY", "KEY_AGREEMENT"},
    "ECC_NIST_P384": {"SIGN_VERIFY", "KEY_AGREEMENT"},
    "ECC_NIST_P521": {"SIGN_VERIFY", "KEY_AGREEMENT"},
    "ECC_SECG_P256K1": {"SIGN_VERIFY"},
    "ECC_NIST_EDWARDS25519": {"SIGN_VERIFY"},
    "ML_DSA_44": {"SIGN_VERIFY"},
    "ML_DSA_65": {"SIGN_VERIFY"},
    "ML_DSA_87": {"SIGN_VERIFY"},
    "HMAC_224": {"GENERATE_VERIFY_MAC"},
    "HMAC_256": {"GENERATE_VERIFY_MAC"},
    "HMAC_384": {"GENERATE_VERIFY_MAC"},
    "HMAC_512": {"GENERATE_VERIFY_MAC"},
    "SYMMETRIC_DEFAULT": {"ENCRYPT_DECRYPT"},
}


@pytest.mark.parametrize("spec", sorted(USAGES))
async def test_a_key_is_made_for_what_its_spec_allows(kms: Kms, spec: str) -> None:
    for usage in ("SIGN_VERIFY", "ENCRYPT_DECRYPT", "GENERATE_VERIFY_MAC", "KEY_AGREEMENT"):
        if usage not in USAGES[spec]:
            assert await kms.code("create_key", KeySpec=spec, KeyUsage=usage) == "ValidationException"
        elif spec not in {"RSA_3072", "RSA_4096"}:  # slow, and covered by the tests of signing
            metadata = (await kms("create_key", KeySpec=spec, KeyUsage=usage))["KeyMetadata"]
            assert (metadata["KeySpec"], metadata["KeyUsage"]) == (spec, usage)


async def test_the_metadata_of_a_new_key_is_that_of_aws(kms: Kms, emulator: AwsEmulator) -> None:
    answer = await kms("create_key", KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY", Description="a key")
    metadata: dict[str, Any] = answer["KeyMetadata"]
    key_id = metadata["KeyId"]
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", key_id)
    assert abs(metadata.pop("CreationDate").timestamp() - time.time()) < 60
    assert metadata == {
        "AWSAccountId": emulator.account,
        "KeyId": key_id,
        "Arn": f"arn:aws:kms:{emulator.region}:{emulator.account}:key/{key_id}",
        "Enabled": True,
        "Description": "a key",
        "KeyUsage": "SIGN_VERIFY",
        "KeyState": "Enabled",
        "Origin": "AWS_KMS",
        "KeyManager": "CUSTOMER",
        "CustomerMasterKeySpec": "ECC_NIST_P256",
        "KeySpec": "ECC_NIST_P256",
        "SigningAlgorithms": ["ECDSA_SHA_256"],
        "MultiRegion": False,
    }


async def test_nothing_said_makes_a_symmetric_key(kms: Kms) -> None:
    metadata = (await kms("create_key"))["KeyMetadata"]
    assert (metadata["KeySpec"], metadata["KeyUsage"]) == ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT")
    assert metadata["EncryptionAlgorithms"] == ["SYMMETRIC_DEFAULT"]


async def test_a_key_pair_needs_a_usage(kms: Kms) -> None:
    refusal = await kms.refusal("create_key", KeySpec="RSA_2048")
    assert refusal.code == "ValidationException"
    assert refusal.message.startswith("You must specify a KeyUsage value")


@pytest.mark.parametrize(
    "parameters", [{"KeySpec": "BOGUS"}, {"KeyUsage": "BOGUS"}, {"KeySpec": "RSA_1024"}, {"Description": "x" * 8193}]
)
async def test_values_that_do_not_exist_are_refused(kms: Kms, parameters: dict[str, str]) -> None:
    assert await kms.code("create_key", **parameters) == "ValidationException"


async def test_other_origins_are_not_emulated(kms: Kms) -> None:
    assert await kms.code("create_key", Origin="EXTERNAL") == "UnsupportedOperationException"


async def test_a_multi_region_key_has_an_mrk_id_and_is_a_primary(kms: Kms, emulator: AwsEmulator) -> None:
    arn = await kms.key(MultiRegion=True)
    assert re.search(r":key/mrk-[0-9a-f]{32}$", arn)
    metadata = (await kms("describe_key", KeyId=arn.rpartition("/")[2]))["KeyMetadata"]
    assert metadata["MultiRegionConfiguration"] == {
        "MultiRegionKeyType": "PRIMARY",
        "PrimaryKey": {"Arn": arn, "Region": emulator.region},
        "ReplicaKeys": [],
    }
    assert (await kms("sign", KeyId=arn, **SIGN))["KeyId"] == arn


async def test_c48_a_disabled_key_neither_signs_nor_shows_its_public_key(kms: Kms) -> None:
    arn, mac_arn = await kms.key(), await kms.key("HMAC_256", "GENERATE_VERIFY_MAC")
    signature = (await kms("sign", KeyId=arn, **SIGN))["Signature"]
    for key in (arn, mac_arn):
        await kms("disable_key", KeyId=key)
    metadata = (await kms("describe_key", KeyId=arn))["KeyMetadata"]
    assert (metadata["KeyState"], metadata["Enabled"]) == ("Disabled", False)
    refusal = await kms.refusal("sign", KeyId=arn, **SIGN)
    assert (refusal.code, refusal.message, refusal.status) == ("DisabledException", f"{arn} is disabled.", 400)
    assert await kms.code("verify", KeyId=arn, Signature=signature, **SIGN) == "DisabledException"
    assert await kms.code("get_public_key", KeyId=arn) == "DisabledException"
    mac = {"KeyId": mac_arn, "Message": b"m", "MacAlgorithm": "HMAC_SHA_256"}
    assert await kms.code("generate_mac", **mac) == "DisabledException"
    assert await kms.code("verify_mac", Mac=bytes(32), **mac) == "DisabledException"
    await kms("enable_key", KeyId=arn)
    assert (await kms("sign", KeyId=arn, **SIGN))["Signature"]


async def test_c48_a_key_that_is_pending_deletion_does_nothing_but_be_shown_and_cancelled(kms: Kms) -> None:
    arn = await kms.key()
    answer = await kms("schedule_key_deletion", KeyId=arn, PendingWindowInDays=7)
    assert (answer["KeyId"], answer["KeyState"], answer["PendingWindowInDays"]) == (arn, "PendingDeletion", 7)
    assert abs(answer["DeletionDate"].timestamp() - time.time() - 7 * DAY) < 60
    refusal = await kms.refusal("sign", KeyId=arn, **SIGN)
    assert (refusal.code, refusal.message) == ("KMSInvalidStateException", f"{arn} is pending deletion.")
    tag = {"TagKey": "a", "TagValue": "b"}
    for operation, parameters in (
        ("get_public_key", {}),
        ("enable_key", {}),
        ("disable_key", {}),
        ("schedule_key_deletion", {"PendingWindowInDays": 10}),
        ("update_key_description", {"Description": "x"}),
        ("tag_resource", {"Tags": [tag]}),
        ("untag_resource", {"TagKeys": ["a"]}),
    ):
        assert await kms.code(operation, KeyId=arn, **parameters) == "KMSInvalidStateException"
    metadata = (await kms("describe_key", KeyId=arn))["KeyMetadata"]
    assert (metadata["KeyState"], metadata["Enabled"]) == ("PendingDeletion", False)
    assert metadata["DeletionDate"] == answer["DeletionDate"]
    assert (await kms("get_key_policy", KeyId=arn))["PolicyName"] == "default"
    assert (await kms("list_resource_tags", KeyId=arn))["Tags"] == []
    assert arn in {key["KeyArn"] for key in (await kms("list_keys"))["Keys"]}


async def test_a_cancelled_deletion_leaves_the_key_disabled(kms: Kms) -> None:
    arn = await kms.key()
    refusal = await kms.refusal("cancel_key_deletion", KeyId=arn)
    assert (refusal.code, refusal.message) == ("KMSInvalidStateException", f"{arn} is not pending deletion.")
    await kms("schedule_key_deletion", KeyId=arn)
    assert (await kms("cancel_key_deletion", KeyId=arn))["KeyId"] == arn
    metadata = (await kms("describe_key", KeyId=arn))["KeyMetadata"]
    assert (metadata["KeyState"], "DeletionDate" in metadata) == ("Disabled", False)


@pytest.mark.parametrize("days", [1, 6, 31, 365, 366])
async def test_deletion_windows_other_than_7_to_30_days_are_refused(kms: Kms, days: int) -> None:
    arn = await kms.key()
    assert await kms.code("schedule_key_deletion", KeyId=arn, PendingWindowInDays=days) == "ValidationException"
    assert await kms.state(arn) == "Enabled"


async def test_a_key_is_gone_with_its_aliases_when_its_window_ends(kms: Kms, emulator: AwsEmulator) -> None:
    arn = await kms.key()
    await kms("create_alias", AliasName="alias/doomed", TargetKeyId=arn)
    assert (await kms("schedule_key_deletion", KeyId=arn))["PendingWindowInDays"] == 30
    emulator.advance_clock(30 * DAY - 60)
    assert await kms.state(arn) == "PendingDeletion"
    await control(emulator, "POST", "clock", {"advance_seconds": 61})
    for reference in (arn, "alias/doomed"):
        assert await kms.code("describe_key", KeyId=reference) == "NotFoundException"
    assert (await kms("list_aliases"))["Aliases"] == []
    assert not emulator.keys


async def test_a_moved_clock_dates_new_keys(kms: Kms, emulator: AwsEmulator) -> None:
    emulator.advance_clock(timedelta(days=400).total_seconds())
    created = (await kms("create_key"))["KeyMetadata"]["CreationDate"].timestamp()
    assert abs(created - time.time() - 400 * DAY) < 60


@pytest.mark.parametrize("state", [KeyState.CREATING, KeyState.UNAVAILABLE])
async def test_states_that_cannot_be_asked_for_can_be_set(kms: Kms, emulator: AwsEmulator, state: KeyState) -> None:
    arn = await kms.key()
    emulator.set_key_state(arn, state)
    assert await kms.state(arn) == state
    assert await kms.code("sign", KeyId=arn, **SIGN) == "KMSInvalidStateException"
    assert await kms.code("get_public_key", KeyId=arn) == "KMSInvalidStateException"
    key_id = arn.rpartition("/")[2]
    assert (await control(emulator, "POST", f"keys/{key_id}", {"state": "Enabled"}))["state"] == "Enabled"
    assert (await kms("sign", KeyId=arn, **SIGN))["Signature"]
    with pytest.raises(KeyError):
        emulator.set_key_state("nothing", state)


async def test_a_description_can_be_replaced(kms: Kms) -> None:
    arn = await kms.key(Description="old")
    for text in ("new", ""):
        await kms("update_key_description", KeyId=arn, Description=text)
        assert (await kms("describe_key", KeyId=arn))["KeyMetadata"]["Description"] == text


async def test_the_default_policy_lets_the_account_decide(kms: Kms, emulator: AwsEmulator) -> None:
    arn = await kms.key()
    policy = json.loads((await kms("get_key_policy", KeyId=arn))["Policy"])
    assert policy["Statement"][0]["Principal"] == {"AWS": f"arn:aws:iam::{emulator.account}:root"}
    assert await kms.code("get_key_policy", KeyId=arn, PolicyName="other") == "NotFoundException"
    own = await kms.key(Policy="{}")
    assert (await kms("get_key_policy", KeyId=own))["Policy"] == "{}"


async def test_keys_are_listed_in_pages(kms: Kms) -> None:
    made = [await kms.key() for _ in range(5)]
    seen: list[str] = []
    more: dict[str, Any] = {}
    sizes = []
    while True:
        page = await kms("list_keys", Limit=2, **more)
        seen += [key["KeyArn"] for key in page["Keys"]]
        sizes.append(len(page["Keys"]))
        if not page["Truncated"]:
            break
        more = {"Marker": page["NextMarker"]}
    assert (seen, sizes) == (made, [2, 2, 1])
    assert "NextMarker" not in page
    everything = await kms("list_keys", Limit=5)
    assert not everything["Truncated"]


async def test_a_page_has_100_keys_unless_asked_for_up_to_1000(kms: Kms) -> None:
    for _ in range(101):
        await kms("create_key")
    page = await kms("list_keys")
    assert (len(page["Keys"]), page["Truncated"]) == (100, True)
    assert len((await kms("list_keys", Marker=page["NextMarker"]))["Keys"]) == 1
    assert len((await kms("list_keys", Limit=1000))["Keys"]) == 101
    for limit in (0, 1001):
        assert await kms.code("list_keys", Limit=limit) == "ValidationException"
    assert await kms.code("list_keys", Marker="made up") == "InvalidMarkerException"


async def test_references_to_what_is_not_here_are_refused(kms: Kms, emulator: AwsEmulator) -> None:
    arn = await kms.key()
    absent = "11111111-2222-3333-4444-555555555555"
    refusal = await kms.refusal("sign", KeyId=absent, **SIGN)
    assert refusal.code == "NotFoundException"
    assert refusal.message == f"Key '{arn.rpartition('/')[0]}/{absent}' does not exist"
    refusal = await kms.refusal("sign", KeyId=arn.replace(emulator.region, "us-east-1"), **SIGN)
    assert (refusal.code, refusal.message) == ("NotFoundException", "Invalid arn us-east-1")
    other_account = arn.replace(emulator.account, "999999999999")
    assert await kms.code("sign", KeyId=other_account, **SIGN) == "AccessDeniedException"
    for reference, code in (
        ("fake-key-id", "NotFoundException"),
        ("mrk-fake-key-id", "NotFoundException"),
        ("alias/nothing", "NotFoundException"),
        (arn.replace("arn:aws:", "arn:aws-cn:"), "NotFoundException"),
        (arn.replace(":kms:", ":s3:"), "InvalidArnException"),
        ("arn:aws:kms", "InvalidArnException"),
        ("x" * 2049, "ValidationException"),
    ):
        for operation, parameters in (("describe_key", {}), ("get_public_key", {}), ("sign", SIGN)):
            assert await kms.code(operation, KeyId=reference, **parameters) == code, reference


async def test_operations_that_manage_keys_take_no_alias(kms: Kms) -> None:
    arn = await kms.key()
    await kms("create_alias", AliasName="alias/a", TargetKeyId=arn)
    assert await kms.code("disable_key", KeyId="alias/a") == "NotFoundException"
    assert await kms.code("disable_key", KeyId=arn.rpartition(":")[0] + ":alias/a") == "InvalidArnException"
    for reference in (arn, arn.rpartition("/")[2]):
        await kms("disable_key", KeyId=reference)
    assert await kms.state("alias/a") == "Disabled"
