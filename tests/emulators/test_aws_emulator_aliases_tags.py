from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from emulators.aws_support import Signer, post

if TYPE_CHECKING:
    from emulators.aws_support import Kms
    from sealwright_testing.emulators.aws import AwsEmulator


def tags(count: int, start: int = 0) -> list[dict[str, str]]:
    return [{"TagKey": f"key{i}", "TagValue": f"value{i}"} for i in range(start, start + count)]


async def test_an_alias_is_made_moved_listed_and_deleted(kms: Kms) -> None:
    first, second = await kms.key(), await kms.key("ECC_NIST_P384")
    await kms("create_alias", AliasName="alias/team/signer_1:x-y", TargetKeyId=first)
    await kms("update_alias", AliasName="alias/team/signer_1:x-y", TargetKeyId=second.rpartition("/")[2])
    [entry] = (await kms("list_aliases"))["Aliases"]
    assert entry["AliasName"] == "alias/team/signer_1:x-y"
    assert entry["AliasArn"] == f"{second.rpartition(':')[0]}:alias/team/signer_1:x-y"
    assert entry["TargetKeyId"] == second.rpartition("/")[2]
    assert abs(entry["CreationDate"].timestamp() - time.time()) < 60
    assert entry["LastUpdatedDate"] >= entry["CreationDate"]
    await kms("delete_alias", AliasName="alias/team/signer_1:x-y")
    assert (await kms("list_aliases"))["Aliases"] == []
    assert await kms.state(second) == "Enabled"


async def test_one_name_has_one_key_and_one_key_many_names(kms: Kms) -> None:
    first, second = await kms.key(), await kms.key()
    for name in ("alias/b", "alias/a"):
        await kms("create_alias", AliasName=name, TargetKeyId=first)
    await kms("create_alias", AliasName="alias/c", TargetKeyId=second)
    assert await kms.code("create_alias", AliasName="alias/a", TargetKeyId=second) == "AlreadyExistsException"
    of_first = (await kms("list_aliases", KeyId=first))["Aliases"]
    assert [alias["AliasName"] for alias in of_first] == ["alias/a", "alias/b"]


@pytest.mark.parametrize(
    "name", ["signer", "alias/", "alias/with space", "alias/ä", "alias/" + "x" * 251, "key/alias/x", ""]
)
async def test_names_that_are_no_alias_names_are_refused(kms: Kms, name: str) -> None:
    assert await kms.code("create_alias", AliasName=name, TargetKeyId=await kms.key()) == "ValidationException"


async def test_names_of_aws_are_refused(kms: Kms) -> None:
    assert await kms.code("create_alias", AliasName="alias/aws/x", TargetKeyId=await kms.key()) == (
        "NotAuthorizedException"
    )


async def test_an_alias_needs_a_key_and_not_another_alias(kms: Kms) -> None:
    arn = await kms.key()
    await kms("create_alias", AliasName="alias/a", TargetKeyId=arn)
    for target in ("alias/a", "11111111-2222-3333-4444-555555555555"):
        assert await kms.code("create_alias", AliasName="alias/b", TargetKeyId=target) == "NotFoundException"


async def test_aliases_that_do_not_exist_cannot_be_moved_or_deleted(kms: Kms) -> None:
    arn = await kms.key()
    assert await kms.code("update_alias", AliasName="alias/none", TargetKeyId=arn) == "NotFoundException"
    assert await kms.code("delete_alias", AliasName="alias/none") == "NotFoundException"


@pytest.mark.parametrize(
    ("spec", "usage"),
    [
        ("HMAC_256", "GENERATE_VERIFY_MAC"),
        ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"),
        ("RSA_2048", "ENCRYPT_DECRYPT"),
        ("ECC_NIST_P256", "KEY_AGREEMENT"),
    ],
)
async def test_an_alias_moves_only_between_keys_of_one_type_and_usage(kms: Kms, spec: str, usage: str) -> None:
    arn = await kms.key()
    await kms("create_alias", AliasName="alias/a", TargetKeyId=arn)
    other = await kms.key(spec, usage)
    assert await kms.code("update_alias", AliasName="alias/a", TargetKeyId=other) == "ValidationException"
    assert (await kms("describe_key", KeyId="alias/a"))["KeyMetadata"]["Arn"] == arn


async def test_an_alias_leaves_a_dying_key_and_never_comes_to_one(kms: Kms) -> None:
    dying, living = await kms.key(), await kms.key()
    await kms("create_alias", AliasName="alias/a", TargetKeyId=dying)
    await kms("schedule_key_deletion", KeyId=dying)
    code = await kms.code("create_alias", AliasName="alias/b", TargetKeyId=dying)
    assert code == "KMSInvalidStateException"
    await kms("update_alias", AliasName="alias/a", TargetKeyId=living)
    code = await kms.code("update_alias", AliasName="alias/a", TargetKeyId=dying)
    assert code == "KMSInvalidStateException"


async def test_aliases_are_listed_in_pages(kms: Kms) -> None:
    arn = await kms.key()
    names = [f"alias/{i:02}" for i in range(51)]
    for name in names:
        await kms("create_alias", AliasName=name, TargetKeyId=arn)
    page = await kms("list_aliases")
    assert (len(page["Aliases"]), page["Truncated"]) == (50, True)
    rest = await kms("list_aliases", Marker=page["NextMarker"], Limit=10)
    assert [alias["AliasName"] for alias in page["Aliases"] + rest["Aliases"]] == names
    assert await kms.code("list_aliases", Limit=101) == "ValidationException"
    assert await kms.code("list_aliases", Marker="x") == "InvalidMarkerException"


async def test_tags_are_given_at_creation_added_replaced_and_removed(kms: Kms, emulator: AwsEmulator) -> None:
    arn = await kms.key(Tags=[{"TagKey": "a", "TagValue": "1"}, {"TagKey": "b", "TagValue": ""}])
    await kms("tag_resource", KeyId=arn, Tags=[{"TagKey": "a", "TagValue": "2"}, {"TagKey": "A", "TagValue": "3"}])
    await kms("untag_resource", KeyId=arn, TagKeys=["b", "never there"])
    listed = (await kms("list_resource_tags", KeyId=arn))["Tags"]
    assert {tag["TagKey"]: tag["TagValue"] for tag in listed} == {"a": "2", "A": "3"}
    assert emulator.keys[arn.rpartition("/")[2]].tags == {"a": "2", "A": "3"}


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ([{"TagKey": "aws:x", "TagValue": "v"}], "TagException"),
        ([{"TagKey": "AWS:x", "TagValue": "v"}], "TagException"),
        ([{"TagKey": "a", "TagValue": "1"}, {"TagKey": "a", "TagValue": "2"}], "TagException"),
        ([{"TagKey": "x" * 129, "TagValue": "v"}], "ValidationException"),
        ([{"TagKey": "", "TagValue": "v"}], "ValidationException"),
        ([{"TagKey": "a", "TagValue": "v" * 257}], "ValidationException"),
        (tags(51), "LimitExceededException"),
    ],
)
async def test_wrong_tags_are_refused_and_change_nothing(
    kms: Kms, emulator: AwsEmulator, wrong: list[dict[str, str]], code: str
) -> None:
    assert await kms.code("create_key", Tags=wrong) == code
    assert not emulator.keys
    arn = await kms.key()
    assert await kms.code("tag_resource", KeyId=arn, Tags=wrong) == code
    assert (await kms("list_resource_tags", KeyId=arn))["Tags"] == []


async def test_a_key_has_at_most_50_tags(kms: Kms) -> None:
    arn = await kms.key(Tags=tags(50))
    await kms("tag_resource", KeyId=arn, Tags=[{"TagKey": "key0", "TagValue": "other"}])
    assert await kms.code("tag_resource", KeyId=arn, Tags=tags(1, start=50)) == "LimitExceededException"


async def test_tags_are_listed_in_pages(kms: Kms) -> None:
    arn = await kms.key(Tags=tags(7))
    seen: list[dict[str, str]] = []
    more: dict[str, Any] = {}
    while True:
        page = await kms("list_resource_tags", KeyId=arn, Limit=3, **more)
        seen += page["Tags"]
        if not page["Truncated"]:
            break
        more = {"Marker": page["NextMarker"]}
    assert seen == tags(7)
    for limit in (0, 51):
        assert await kms.code("list_resource_tags", KeyId=arn, Limit=limit) == "ValidationException"


@pytest.mark.parametrize(
    ("operation", "body", "code"),
    [
        ("TagResource", b'{"KeyId": "x"}', "ValidationException"),
        ("TagResource", b'{"KeyId": "x", "Tags": {}}', "SerializationException"),
        ("CreateKey", b'{"Tags": ["a"]}', "SerializationException"),
        ("UntagResource", b'{"KeyId": "x", "TagKeys": [1]}', "SerializationException"),
        ("ListKeys", b'{"Limit": true}', "SerializationException"),
        ("ListKeys", b'{"Limit": "1"}', "SerializationException"),
    ],
)
async def test_values_of_the_wrong_shape_are_refused(
    emulator: AwsEmulator, operation: str, body: bytes, code: str
) -> None:
    headers = Signer().sign(emulator.endpoint.removeprefix("http://"), operation, body)
    status, answer = await post(emulator.endpoint, headers, body)
    assert (status, answer["__type"]) == (400, code)
