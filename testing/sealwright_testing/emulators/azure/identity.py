"""What stands in for Microsoft Entra ID and the managed identity endpoints: they issue the bearer tokens of this emulator.

The token endpoint is `/{tenant}/oauth2/v2.0/token`. The endpoint of virtual machines is `/metadata/identity/oauth2/token` (IMDS,
header `Metadata: true`), and that of App Service `/msi/token` (header `X-IDENTITY-HEADER`).
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

IDENTITY_HEADER: Final = "emulator-identity-header"
_HOUR: Final = 3600


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was issued.

    Attributes:
        audience: The resource that it is for, such as `https://vault.azure.net`.
        expires: When it ends, in seconds since the epoch.
    """

    audience: str
    expires: float


class Identity:
    """Issues and checks tokens.

    Attributes:
        tenant: The only tenant that it knows.
        client_id: The only application that it knows.
        client_secret: Its secret.
        lifetime: Seconds that a new token lives.
    """

    def __init__(self, *, tenant: str, client_id: str, client_secret: str) -> None:
        self.tenant = tenant
        self.client_id = client_id
        self.client_secret = client_secret
        self.lifetime: float = _HOUR
        self._tokens: dict[str, Token] = {}

    def issue(self, audience: str) -> dict[str, Any]:
        """Return the answer with a new token for a resource."""
        value = secrets.token_urlsafe(600)  # As long as a real one, since every request carries it.
        self._tokens[value] = Token(audience.rstrip("/"), time.time() + self.lifetime)
        seconds = int(self.lifetime)
        return {"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": value}

    def accepts(self, authorization: str, audience: str) -> bool:
        """Return whether the Authorization header has a token for the resource that has not expired."""
        scheme, _, value = authorization.partition(" ")
        token = self._tokens.get(value)
        return (
            scheme.lower() == "bearer"
            and token is not None
            and token.audience == audience
            and token.expires > time.time()
        )

    def revoke_all(self) -> None:
        """Stop accepting all tokens issued so far."""
        self._tokens.clear()

    async def token(self, request: web.Request) -> web.Response:
        """Answer the token endpoint: client credentials, with a secret or an assertion (certificate, workload identity)."""
        form = await request.post()
        if request.match_info["tenant"] != self.tenant:
            return _refusal("invalid_request", f"AADSTS90002: Tenant '{request.match_info['tenant']}' not found.")
        known = form.get("client_id") == self.client_id
        asserted = bool(form.get("client_assertion"))
        if not known or not (asserted or form.get("client_secret") == self.client_secret):
            return _refusal("invalid_client", "AADSTS7000215: Invalid client secret provided.", HTTPStatus.UNAUTHORIZED)
        scope = str(form.get("scope", ""))
        if not scope.endswith("/.default"):
            return _refusal(
                "invalid_scope", "AADSTS70011: The provided value for the input parameter 'scope' is not valid."
            )
        return web.json_response(self.issue(scope.removesuffix("/.default")))

    async def metadata(self, request: web.Request) -> web.Response:
        """Answer the managed identity endpoint of virtual machines."""
        if request.headers.get("Metadata", "").lower() != "true":
            return _refusal("invalid_request", "Required metadata header not specified")
        return self._managed(request)

    async def app_service(self, request: web.Request) -> web.Response:
        """Answer the managed identity endpoint of App Service."""
        if request.headers.get("X-IDENTITY-HEADER") != IDENTITY_HEADER:
            return _refusal("invalid_request", "the identity header is wrong", HTTPStatus.UNAUTHORIZED)
        return self._managed(request)

    def _managed(self, request: web.Request) -> web.Response:
        audience = request.query.get("resource", "")
        answer = self.issue(audience)
        return web.json_response(
            answer
            | {"resource": audience, "expires_on": str(int(time.time() + self.lifetime)), "client_id": self.client_id}
        )


def _refusal(error: str, text: str, status: int = HTTPStatus.BAD_REQUEST) -> web.Response:
    return web.json_response({"error": error, "error_description": text}, status=status)
