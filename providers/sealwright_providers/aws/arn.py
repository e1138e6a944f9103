"""Key URIs of AWS KMS: `awskms:///` followed by a key ARN, or, where a name may be resolved, by an alias."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from sealwright.provider import ProviderUnsupportedError

PREFIX: Final = "awskms:///"
_KEY_ARN = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):kms:(?P<region>[a-z0-9-]+):(?P<account>[0-9]{12}):key/[A-Za-z0-9-]{1,64}"
)
_ALIAS_ARN = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):kms:(?P<region>[a-z0-9-]+):(?P<account>[0-9]{12}):alias/[A-Za-z0-9:/_-]{1,250}"
)
_ALIAS = re.compile(r"alias/[A-Za-z0-9:/_-]{1,250}")
_REMEMBERED: Final = 4096
"""For how many key URIs it is remembered that they are inside the region and the account."""


_PARTITIONS: Final = {
    "cn-": "aws-cn",
    "eu-isoe-": "aws-iso-e",
    "eusc-": "aws-eusc",
    "us-gov-": "aws-us-gov",
    "us-iso-": "aws-iso",
    "us-isob-": "aws-iso-b",
    "us-isof-": "aws-iso-f",
}
"""Partitions of AWS by the prefix of their regions' names. All other regions are in `aws` (IAM User Guide, "ARNs")."""


def partition(region: str) -> str:
    """Return the partition of a region."""
    return next((name for start, name in _PARTITIONS.items() if region.startswith(start)), "aws")


def to_uri(arn: str) -> str:
    """Return the key URI of an ARN."""
    return PREFIX + arn


def account_in(arn: str) -> str | None:
    """Return the account of a key ARN; None: it is not one."""
    match = _KEY_ARN.fullmatch(arn)
    return match["account"] if match else None


@lru_cache(_REMEMBERED)
def pinned_arn(uri: str, *, region: str, account: str | None) -> str:
    """Return the key ARN of a pinned URI inside the provider's region and account.

    Raises:
        ProviderUnsupportedError: The URI names an alias, another region, another account, or is not a key URI.
    """
    arn = uri.removeprefix(PREFIX)
    match = _KEY_ARN.fullmatch(arn)
    if not uri.startswith(PREFIX) or match is None:
        raise ProviderUnsupportedError("the key URI must be awskms:/// followed by a key ARN")
    return _inside(arn, match, region, account)


def resolvable(uri: str, *, region: str, account: str | None) -> str:
    """Return a name that KMS resolves: a key ARN, an alias ARN or an alias, inside the provider's region and account.

    Raises:
        ProviderUnsupportedError: The URI is none of these.
    """
    name = uri.removeprefix(PREFIX)
    if not uri.startswith(PREFIX):
        raise ProviderUnsupportedError("the key URI must start with awskms:///")
    if _ALIAS.fullmatch(name):
        return name
    match = _KEY_ARN.fullmatch(name) or _ALIAS_ARN.fullmatch(name)
    if match is None:
        raise ProviderUnsupportedError("the key URI must name a key or an alias")
    return _inside(name, match, region, account)


def _inside(arn: str, match: re.Match[str], region: str, account: str | None) -> str:
    if match["region"] != region or match["partition"] != partition(region) or account not in {None, match["account"]}:
        raise ProviderUnsupportedError("the key URI is outside the provider's region or account")
    return arn
