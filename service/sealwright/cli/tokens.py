"""`sealwright sign`, `verify` and `jwks`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from google.protobuf.duration_pb2 import Duration

from sealwright.cli.arguments import DurationType, issuer_argument
from sealwright.cli.connection import Target, ask, channel, connection_options
from sealwright.cli.inputs import read_standard_input, read_text
from sealwright.cli.output import output_option, show
from sealwright.v1.jwks_pb2 import GetJwksRequest
from sealwright.v1.jwks_pb2_grpc import JwksServiceStub
from sealwright.v1.signing_pb2 import SignJwtRequest, VerifyJwtRequest
from sealwright.v1.signing_pb2_grpc import SigningServiceStub


@click.command()
@issuer_argument
@click.option(
    "--claims",
    default="{}",
    show_default=True,
    help="The claims, a JSON object. @FILE reads it from a file, - from standard input.",
)
@click.option("--subject", default="", help="Value of `sub`.")
@click.option("--audience", multiple=True, help="Value of `aud`. Repeat the option for several.")
@click.option("--lifetime", type=DurationType(), help='Time until `exp`, such as "10m". Default: the issuer\'s.')
@click.option("--algorithm", default="", help="JWS algorithm. Default: the first of the issuer.")
@click.option("--type", "token_type", default="", help="Value of `typ`. Default: the first of the issuer.")
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
    """Sign a token of ISSUER and print it.

    \b
    Examples:
      sealwright sign payments --subject user-1 --audience https://api.example.com
      echo '{"scope": "pay"}' | sealwright sign payments --claims - --output json
    """  # noqa: D301 - click reads the control character
    request = SignJwtRequest(
        issuer=issuer,
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
@issuer_argument
@click.argument("token")
@click.option("--audience", default="", help="Audience that `aud` must contain.")
@click.option("--skip-audience-check", is_flag=True, help="Ignore `aud`.")
@connection_options
@output_option
def verify(issuer: str, token: str, audience: str, skip_audience_check: bool, target: Target, output: str) -> None:
    """Verify that TOKEN is from ISSUER and valid now. With - as TOKEN, read it from standard input.

    Print its claims. If a check fails, print that check, and end with status 1.

    \b
    Example:
      sealwright verify payments "$TOKEN" --audience https://api.example.com
    """  # noqa: D301 - click reads the control character
    request = VerifyJwtRequest(
        issuer=issuer,
        token=read_standard_input("TOKEN").strip() if token == "-" else token,  # noqa: S105 - not a password
        audience=audience,
        skip_audience_check=skip_audience_check,
    )
    with channel(target) as opened:
        good = ask(SigningServiceStub(opened).VerifyJwt, request, target, output)
    expires = good.expire_time.ToDatetime(UTC)
    left = expires - datetime.now(UTC)
    head = f"valid until {expires:%Y-%m-%d %H:%M:%S} UTC ({int(left.total_seconds())} s), by key {good.kid}"
    text = f"{head}\n{_pretty(good.claims_json)}"
    details = {"kid": good.kid, "expire_time": good.expire_time.ToJsonString(), "claims": json.loads(good.claims_json)}
    show(output, text, details)


@click.command()
@issuer_argument
@connection_options
@output_option
def jwks(issuer: str, target: Target, output: str) -> None:
    """Print the JWK Set of ISSUER, which verifiers fetch."""
    with channel(target) as opened:
        answer = ask(JwksServiceStub(opened).GetJwks, GetJwksRequest(issuer=issuer), target, output)
    show(output, _pretty(answer.jwks_json), json.loads(answer.jwks_json))


def _text(value: str) -> str:
    if value == "-":
        return read_standard_input("--claims")
    return read_text(Path(value[1:]), "--claims") if value.startswith("@") else value


def _pretty(text: str) -> str:
    return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
