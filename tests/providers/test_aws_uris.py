from __future__ import annotations

from typing import Any, NoReturn

import pytest

from providers.aws_provider_support import ACCOUNT, ES256, REGION, settings
from sealwright.errors import ProviderUnsupportedError
from sealwright_providers.aws.provider import AwsProvider

KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
ALIAS = f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/s"


class NoNetwork:
    async def call(self, operation: str, fields: dict[str, Any], *, timeout: float) -> NoReturn:  # noqa: ARG002
        raise AssertionError(f"{operation} was called")

    async def account(self, *, timeout: float) -> NoReturn:  # noqa: ARG002
        raise AssertionError("GetCallerIdentity was called")

    async def aclose(self) -> None:
        pass


@pytest.fixture
def offline() -> AwsProvider:
    return AwsProvider(settings(None, account=ACCOUNT), NoNetwork())


NEVER = [
    "",
    KEY,
    f"awskms://{KEY}",
    f"awskms:////{KEY}",
    f"AWSKMS:///{KEY}",
    f"gcpkms:///{KEY}",
    f"https://kms.{REGION}.amazonaws.com/{KEY}",
    "awskms:///1234abcd-12ab-34cd-56ef-1234567890ab",
    f"awskms:///{KEY} ",
    f"awskms:///{KEY}\n",
    f"awskms:///{KEY}/..",
    f"awskms:///{KEY.replace('kms', 's3')}",
    f"awskms:///{KEY.replace('key/', 'key/../')}",
    f"awskms:///{KEY.replace(REGION, 'us-east-1')}",
    f"awskms:///{KEY.replace(ACCOUNT, '999988887777')}",
    f"awskms:///{KEY.replace(ACCOUNT, '٣' * 12)}",
    f"awskms:///{KEY.replace(ACCOUNT, '')}",
    f"awskms:///{ALIAS.replace(REGION, 'us-east-1')}",
    f"awskms:///{ALIAS.replace(ACCOUNT, '999988887777')}",
    "awskms:///alias/",
]


@pytest.mark.parametrize("uri", NEVER)
async def test_a_uri_outside_the_configuration_makes_no_call(offline: AwsProvider, uri: str) -> None:
    for call in (
        offline.sign(uri, ES256, b"a.b", timeout=1),
        offline.describe(uri, timeout=1),
        offline.disable(uri, timeout=1),
        offline.schedule_deletion(uri, timeout=1),
    ):
        with pytest.raises(ProviderUnsupportedError) as refused:
            await call
        assert not uri or uri not in str(refused.value)


@pytest.mark.parametrize("uri", ["awskms:///alias/s", f"awskms:///{ALIAS}"])
async def test_an_alias_is_for_describing_alone(offline: AwsProvider, uri: str) -> None:
    for call in (
        offline.sign(uri, ES256, b"a.b", timeout=1),
        offline.disable(uri, timeout=1),
        offline.schedule_deletion(uri, timeout=1),
    ):
        with pytest.raises(ProviderUnsupportedError):
            await call
    with pytest.raises(AssertionError, match="DescribeKey"):
        await offline.describe(uri, timeout=1)


async def test_without_a_configured_account_any_is_asked() -> None:
    free = AwsProvider(settings(None), NoNetwork())
    uri = f"awskms:///{KEY.replace(ACCOUNT, '999988887777')}"
    with pytest.raises(AssertionError, match="Sign"):
        await free.sign(uri, ES256, b"a.b", timeout=1)
