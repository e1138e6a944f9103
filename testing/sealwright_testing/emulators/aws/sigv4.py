"""Verification of AWS Signature Version 4, for requests that carry it in the Authorization header.

AWS General Reference, "Signature Version 4 signing process". AWS KMS is a JSON service, and these report a
wrong signature with HTTP 400. S3 and the query services use 403.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NoReturn
from urllib.parse import quote, unquote_plus

from .errors import AwsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_SKEW_SECONDS: Final = 300
"""Largest difference between the date of a request and the clock: 5 minutes."""
SERVICE: Final = "kms"
_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_TERMINATOR: Final = "aws4_request"
_DATE_FORMAT: Final = "%Y%m%dT%H%M%SZ"
_PAIR: Final = re.compile(r"(Credential|SignedHeaders|Signature)=([^,\s]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """An access key that may sign requests.

    Attributes:
        access_key: its id.
        secret_key: its secret.
        session_token: the token that must accompany temporary credentials; `None` for permanent ones.
        expire_time: seconds since the epoch after which the answer is ExpiredTokenException; `None` for never.
    """

    access_key: str
    secret_key: str
    session_token: str | None = None
    expire_time: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRequest:
    """The parts of a request that a signature covers.

    Attributes:
        method: the HTTP method.
        path: the path, percent-encoded as received.
        query: the query string without `?`, as received.
        headers: names (in any letter case) and values, in the order received.
        body: the whole body.
    """

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the value of a header, or several joined as in the signature; `None` if absent."""
        values = [" ".join(value.split()) for key, value in self.headers if key.lower() == name]
        return ",".join(values) if values else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Authorization:
    access_key: str
    scope_date: str
    region: str
    service: str
    terminator: str
    signed_headers: tuple[str, ...]
    signature: str

    @property
    def scope(self) -> str:
        return f"{self.scope_date}/{self.region}/{self.service}/{self.terminator}"


def verify(
    request: SignedRequest, *, credentials: Mapping[str, Credential], region: str, now: float, service: str = SERVICE
) -> None:
    """Check that a request has a correct and recent signature for AWS KMS in this Region.

    The common errors of AWS have the names that its JSON services send (with `Exception`). The order of the checks and some
    messages are not checked against AWS; the types are as documented.

    Args:
        request: the request.
        credentials: the credentials that may sign, by access key ID.
        region: the Region that the credential scope must name.
        now: seconds since the epoch, by the wall clock.
        service: the service that the credential scope must name.

    Raises:
        AwsError: MissingAuthenticationTokenException, IncompleteSignatureException, UnrecognizedClientException,
            ExpiredTokenException or InvalidSignatureException.
    """
    authorization = _parse(request)
    signed_at = _check_date(request, authorization, now)
    _check_scope(authorization, region, service)
    _check_signed_headers(request, authorization)
    credential = credentials.get(authorization.access_key)
    if credential is None or credential.session_token != request.header("x-amz-security-token"):
        raise AwsError("UnrecognizedClientException", "The security token included in the request is invalid.")
    if not hmac.compare_digest(_signature(request, authorization, credential, signed_at), authorization.signature):
        _refuse(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
            "Access Key and signing method. Consult the service documentation for details."
        )
    if credential.expire_time is not None and credential.expire_time <= now:
        raise AwsError("ExpiredTokenException", "The security token included in the request is expired")


def _parse(request: SignedRequest) -> _Authorization:
    header = request.header("authorization")
    if header is None:
        raise AwsError("MissingAuthenticationTokenException", "Missing Authentication Token")
    algorithm, _, rest = header.partition(" ")
    if algorithm != _ALGORITHM:
        _incomplete(f"Unsupported AWS 'algorithm': '{algorithm}'.")
    pairs = dict(_PAIR.findall(rest))
    missing = [name for name in ("Credential", "Signature", "SignedHeaders") if not pairs.get(name)]
    if missing:
        _incomplete(" ".join(f"Authorization header requires '{name}' parameter." for name in missing))
    try:
        access_key, date, region, service, terminator = pairs["Credential"].rsplit("/", 4)
    except ValueError:
        _incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.")
    return _Authorization(
        access_key=access_key,
        scope_date=date,
        region=region,
        service=service,
        terminator=terminator,
        signed_headers=tuple(pairs["SignedHeaders"].split(";")),
        signature=pairs["Signature"],
    )


def _check_date(request: SignedRequest, authorization: _Authorization, now: float) -> str:
    text = request.header("x-amz-date")
    if text is None:
        _incomplete("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
    try:
        moment = datetime.strptime(text, _DATE_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        _incomplete(f"Date must be in ISO-8601 'basic format'. Got '{text}'.")
    if text[:8] != authorization.scope_date:
        _refuse(f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{text}'.")
    skew = moment.timestamp() - now
    server = datetime.fromtimestamp(now, UTC).strftime(_DATE_FORMAT)
    if skew < -MAX_SKEW_SECONDS:
        _refuse(f"Signature expired: {text} is now earlier than {server} - 5 min.")
    if skew > MAX_SKEW_SECONDS:
        _refuse(f"Signature not yet current: {text} is still later than {server} + 5 min.")
    return text


def _check_scope(authorization: _Authorization, region: str, service: str) -> None:
    if authorization.region != region:
        _refuse("Credential should be scoped to a valid region.")
    if authorization.service != service:
        _refuse(f"Credential should be scoped to correct service: '{service}'.")
    if authorization.terminator != _TERMINATOR:
        _refuse(f"Credential should be scoped with a valid terminator: '{_TERMINATOR}'.")


def _check_signed_headers(request: SignedRequest, authorization: _Authorization) -> None:
    signed = authorization.signed_headers
    if "host" not in signed:
        _refuse("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
    for name in sorted({key.lower() for key, _ in request.headers if key.lower().startswith("x-amz-")}):
        if name not in signed:
            _refuse(f"'{name}' must be a 'SignedHeader' in the AWS Authorization.")


def _signature(request: SignedRequest, authorization: _Authorization, credential: Credential, date: str) -> str:
    names = authorization.signed_headers
    canonical = "\n".join(
        (
            request.method,
            # Services other than S3 encode the path twice.
            quote(request.path, safe="/-_.~") or "/",
            _canonical_query(request.query),
            *(f"{name}:{request.header(name) or ''}" for name in names),
            "",
            ";".join(names),
            hashlib.sha256(request.body).hexdigest(),
        ),
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"{_ALGORITHM}\n{date}\n{authorization.scope}\n{digest}"
    key = f"AWS4{credential.secret_key}".encode()
    for part in authorization.scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


def _canonical_query(query: str) -> str:
    pairs = []
    for item in filter(None, query.split("&")):
        name, _, value = item.partition("=")
        pairs.append((quote(unquote_plus(name), safe="-_.~"), quote(unquote_plus(value), safe="-_.~")))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def _refuse(message: str) -> NoReturn:
    raise AwsError("InvalidSignatureException", message)


def _incomplete(message: str) -> NoReturn:
    raise AwsError("IncompleteSignatureException", message)
