"""`sealwright sign`, `verify` and `jwks`."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from google.protobuf.duration_pb2 import Duration

from sealwright.cli.connection import Target, ask, channel, connection_options
from sealwright.cli.output import output_option, show
from sealwright.settings import parse_duration
from sealwright.v1.jwks_pb2 import GetJwksRequest
from sealwright.v1.jwks_pb2_grpc import JwksServiceStub
from sealwright.v1.signing_pb2 import SignJwtRequest, VerifyJwtRequest
from sealwright.v1.signing_pb2_grpc import SigningServiceStub


class DurationType(click.ParamType[timedelta]):
    """A duration, as the configuration writes it."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Turn "10m" into a timedelta."""
        try:
            return parse_duration(value)  # type: ignore[no-any-return]
        except ValueError as e:
            self.fail(str(e), param, ctx)


@click.command()
@click.argument("issuer")
@click.option(
    "--claims",
    default="{}",
    show_default=True,
    help="A JSON object; @FILE reads it from a file, - from standard input.",
)
@click.option("--subject", default="", help="`sub`.")
@click.option("--audience", multiple=True, help="`aud`; may be given more than once.")
@click.option("--lifetime", type=DurationType(), help='Time to `exp`, such as "10m". Default: the issuer\'s.')
@click.option("--algorithm", default="", help="JWS algorithm. Default: the issuer's first.")
@click.option("--type", "token_type", default="", help="`typ`. Default: the issuer's first.")
@connection_options
@output_option
def sign(
    issuer: str,
    claims: str,
    subject: str,
    audience: tuple[str, ...],
    lifetime: timedelta | None,
    algorithm: str,
    token_type: str,
    target: Target,
    output: str,
) -> None:
    r"""Sign a token of ISSUER and print it.

    \b
    Examples:
      sealwright sign payments --subject user-1 --audience https://api.example.com
      echo '{"scope": "pay"}' | sealwright sign payments --claims - --output json
    """
    request = SignJwtRequest(
        issuer=_issuer(issuer),
        claims_json=_text(claims),
        subject=subject,
        audience=audience,
        algorithm=algorithm,
        token_type=token_type,
    )
    if lifetime is not None:
        duration = Duration()
        duration.FromTimedelta(lifetime)
        request.lifetime.CopyFrom(duration)
    with channel(target) as opened:
        signed = ask(SigningServiceStub(opened).SignJwt, request, target, output)
    details = {
        "token": signed.token,
        "kid": signed.kid,
        "algorithm": signed.algorithm,
        "issue_time": signed.issue_time.ToJsonString(),
        "expire_time": signed.expire_time.ToJsonString(),
        "jwt_id": signed.jwt_id,
    }
    show(output, signed.token, details)


@click.command()
@click.argument("issuer")
@click.argument("token")
@click.option("--audience", default="", help="Whom `aud` must name.")
@click.option("--skip-audience-check", is_flag=True, help="Do not look at `aud`.")
@connection_options
@output_option
def verify(issuer: str, token: str, audience: str, skip_audience_check: bool, target: Target, output: str) -> None:
    r"""Verify TOKEN (- reads it from standard input): is it from ISSUER, and good now?

    Exit status: 0 and its claims, or 1 and the check that failed.

    \b
    Example:
      sealwright verify payments "$TOKEN" --audience https://api.example.com
    """
    request = VerifyJwtRequest(
        issuer=_issuer(issuer),
        token=sys.stdin.read().strip() if token == "-" else token,  # noqa: S105 - a file name
        audience=audience,
        skip_audience_check=skip_audience_check,
    )
    with channel(target) as opened:
        good = ask(SigningServiceStub(opened).VerifyJwt, request, target, output)
    expires = good.expire_time.ToDatetime(UTC)
    left = expires - datetime.now(UTC)
    head = f"good until {expires:%Y-%m-%d %H:%M:%S} UTC ({int(left.total_seconds())} s), by key {good.kid}"
    text = f"{head}\n{_pretty(good.claims_json)}"
    details = {"kid": good.kid, "expire_time": good.expire_time.ToJsonString(), "claims": json.loads(good.claims_json)}
    show(output, text, details)


@click.command()
@click.argument("issuer")
@connection_options
@output_option
def jwks(issuer: str, target: Target, output: str) -> None:
    """Print the JWK Set of ISSUER, as verifiers fetch it."""
    with channel(target) as opened:
        answer = ask(JwksServiceStub(opened).GetJwks, GetJwksRequest(issuer=_issuer(issuer)), target, output)
    show(output, _pretty(answer.jwks_json), json.loads(answer.jwks_json))


def _issuer(name: str) -> str:
    return name if name.startswith("issuers/") else f"issuers/{name}"


def _text(value: str) -> str:
    if value == "-":
        return sys.stdin.read()
    if value.startswith("@"):
        with click.open_file(value[1:], encoding="utf-8") as file:
            return str(file.read())
    return value


def _pretty(text: str) -> str:
    return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
