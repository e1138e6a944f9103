from __future__ import annotations

from datetime import UTC, datetime, timedelta
from unittest.mock import patch

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from sealwright_providers.aws.sigv4 import Credentials, Signer

ASCII = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)
REGIONS = st.sampled_from(["eu-west-1", "cn-north-1", "us-gov-west-1"])
HOSTS = st.sampled_from(["kms.eu-west-1.amazonaws.com", "127.0.0.1:4566", "[::1]:8080"])
TARGETS = st.sampled_from(["TrentService.Sign", "TrentService.CreateKey"])
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - bounds are naive


def theirs(credentials: Credentials, region: str, host: str, target: str, body: bytes, now: datetime) -> dict[str, str]:  # noqa: PLR0917
    request = AWSRequest(
        "POST",
        f"https://{host}/",
        data=body,
        headers={"content-type": "application/x-amz-json-1.1", "host": host, "x-amz-target": target},
    )
    frozen = ReadOnlyCredentials(credentials.access_key, credentials.secret_key, credentials.token or None)
    with patch("botocore.auth.get_current_datetime", return_value=now.replace(tzinfo=None)):
        SigV4Auth(frozen, "kms", region).add_auth(request)
    return {name.lower(): str(value) for name, value in request.headers.items()}


def ours(signer: Signer, credentials: Credentials, target: str, body: bytes, now: datetime) -> dict[str, str]:
    """Return the header fields of a request."""
    head, _, sent = signer.request(credentials, target, body, now.timestamp()).partition(b"\r\n\r\n")
    line, *fields = head.decode("ascii").split("\r\n")
    assert (line, sent) == ("POST / HTTP/1.1", body)
    headers = dict(field.split(": ", 1) for field in fields)
    assert headers.pop("content-length") == str(len(body))
    return headers


@settings(deadline=None, max_examples=150)
@given(
    access_key=ASCII,
    secret_key=ASCII,
    token=st.just("") | ASCII,
    region=REGIONS,
    host=HOSTS,
    target=TARGETS,
    body=st.binary(max_size=200),
    times=st.lists(TIMES, min_size=1, max_size=3),
)
def test_headers_are_byte_for_byte_those_of_botocore(  # noqa: PLR0917 - one for each input
    access_key: str,
    secret_key: str,
    token: str,
    region: str,
    host: str,
    target: str,
    body: bytes,
    times: list[datetime],
) -> None:
    credentials = Credentials(access_key, secret_key, token)
    # Use one signer for several days, forwards and back, since it keeps the derived key and the texts of a second.
    signer = Signer(region, host)
    for now in [*times, *times]:
        assert ours(signer, credentials, target, body, now) == theirs(credentials, region, host, target, body, now)


def test_a_signer_notices_new_credentials_on_the_same_day() -> None:
    signer = Signer("eu-west-1", "h")
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for secret in ("one", "two", "one"):
        credentials = Credentials("k", secret)
        expected = theirs(credentials, "eu-west-1", "h", "TrentService.Sign", b"{}", now)
        assert ours(signer, credentials, "TrentService.Sign", b"{}", now) == expected


def test_a_signer_notices_another_operation_and_second() -> None:
    signer, credentials = Signer("eu-west-1", "h"), Credentials("k", "s", "t")
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for target, seconds in (
        ("TrentService.Sign", 0),
        ("TrentService.GetPublicKey", 0),
        ("TrentService.Sign", 0.9),
        ("TrentService.Sign", 1),
    ):
        now = start + timedelta(seconds=seconds)
        assert ours(signer, credentials, target, b"{}", now) == theirs(
            credentials, "eu-west-1", "h", target, b"{}", now
        )


def test_secrets_are_in_no_repr() -> None:
    assert repr(Credentials("id", "hidden", "hidden")) == "Credentials(access_key='id')"
