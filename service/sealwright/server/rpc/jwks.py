"""JwksService."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from sealwright.errors import NoActiveKeyError
from sealwright.keys.issuer import RETRY_SECONDS
from sealwright.keys.keyring import Keyring
from sealwright.server.rpc.names import parse_issuer
from sealwright.v1 import jwks_pb2, jwks_pb2_grpc


class JwksService(jwks_pb2_grpc.JwksServiceServicer):
    """Publishes JWK Sets."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def GetJwks(  # noqa: N802 - the name in the proto
        self,
        request: jwks_pb2.GetJwksRequest,
        context: grpc.aio.ServicerContext[Any, Any],  # noqa: ARG002 - public: everybody may call it
    ) -> jwks_pb2.GetJwksResponse:
        """See jwks.proto."""
        name = parse_issuer(request.issuer, "issuer")
        self._keyring.settings(name)
        issuer = self._keyring.find(name)
        document = issuer.document() if issuer else None
        if document is None:
            raise NoActiveKeyError("the issuer has no JWK Set that may be served now", retry_after=RETRY_SECONDS)
        return jwks_pb2.GetJwksResponse(
            jwks_json=document.body.decode(),
            etag=document.etag,
            max_age=Duration(seconds=document.max_age),
        )
