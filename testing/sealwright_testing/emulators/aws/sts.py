"""GetCallerIdentity of AWS STS: the query protocol, with XML (AWS STS API Reference, GetCallerIdentity)."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from aiohttp import web

if TYPE_CHECKING:
    from .errors import AwsError

IDENTITY: Final = "GetCallerIdentity"
_FORM: Final = "application/x-www-form-urlencoded"
_NAMESPACE: Final = "https://sts.amazonaws.com/doc/2011-06-15/"


def is_sts(request: web.Request, body: bytes) -> bool:
    """Return whether a request is GetCallerIdentity."""
    if request.method != "POST" or request.content_type != _FORM:
        return False
    return parse_qs(body.decode("ascii", "replace")).get("Action") == [IDENTITY]


def identity(account: str) -> web.Response:
    """Return the answer for the user that signed the request."""
    return _xml(
        HTTPStatus.OK,
        f'<GetCallerIdentityResponse xmlns="{_NAMESPACE}"><GetCallerIdentityResult>'
        f"<Arn>arn:aws:iam::{account}:user/test</Arn><UserId>AIDATEST</UserId><Account>{account}</Account>"
        f"</GetCallerIdentityResult>{_metadata()}</GetCallerIdentityResponse>",
    )


def sts_error(error: AwsError) -> web.Response:
    """Return an error. STS names errors without `Exception` at the end."""
    code = error.type.removesuffix("Exception")
    return _xml(
        error.status,
        f'<ErrorResponse xmlns="{_NAMESPACE}"><Error><Type>Sender</Type><Code>{escape(code)}</Code>'
        f"<Message>{escape(error.message)}</Message></Error>{_metadata()}</ErrorResponse>",
    )


def _metadata() -> str:
    return f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata>"


def _xml(status: int, text: str) -> web.Response:
    return web.Response(status=status, body=text.encode(), headers={"Content-Type": "text/xml"})
