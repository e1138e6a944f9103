"""`sealwright dev`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from sealwright.cli.dev_backends import BACKENDS, running
from sealwright.cli.output import output_option
from sealwright.cli.serve import failures
from sealwright.config import parse
from sealwright.logs import log_to_stderr

_ISSUER = "dev"


@click.command()
@click.option("--grpc", default="127.0.0.1:0", show_default=True, help="Address for callers. Port 0: any free port.")
@click.option("--http", default="127.0.0.1:0", show_default=True, help="Address for verifiers. Port 0: any free port.")
@click.option(
    "--provider",
    type=click.Choice(list(BACKENDS)),
    default="aws",
    show_default=True,
    help="Kind of provider: an emulated KMS, or for pkcs11 a temporary token of SoftHSM.",
)
@click.option("--algorithm", default="ES256", show_default=True, help="JWS algorithm of the issuer.")
@output_option
def dev(grpc: str, http: str, provider: str, algorithm: str, output: str) -> None:
    """Run the service on an emulated KMS, in the foreground, with an issuer called `dev`.

    All data is in a temporary directory, which is deleted when the command ends, with Ctrl-C. Connections are plaintext on
    loopback, and the local caller may do everything. The command needs `pip install sealwright-testing`, and for pkcs11 also
    SoftHSM (Debian: softhsm2) and `pip install sealwright[pkcs11]`.
    """
    log_to_stderr("warning")
    # Imported here, so that `--help` does not load gRPC.
    from sealwright.app import build  # noqa: PLC0415
    from sealwright.server.worker import run_worker  # noqa: PLC0415

    with (
        failures(output),
        tempfile.TemporaryDirectory(prefix="sealwright-dev-") as directory,
        running(provider, Path(directory)) as table,
    ):
        config = parse(_document(directory, table, grpc, http, algorithm))
        title = BACKENDS[provider].title
        run_worker(lambda: build(config), lambda addresses: _announce(addresses, title, output))


def _document(directory: str, provider: dict[str, Any], grpc: str, http: str, algorithm: str) -> dict[str, Any]:
    everything = {"issuers": ["*"], "subjects": ["**"], "audiences": ["**"], "token_types": ["*"]}
    roles = ["signer", "rotator", "revoker", "auditor"]
    series = {"name": algorithm.lower(), "algorithm": algorithm, "provider": "emulated"}
    return {
        "server": {"grpc": grpc, "http": http, "admin": "127.0.0.1:0", "insecure_local": True, "reflection": True},
        "store": {"url": f"sqlite:///{directory}/state.db"},
        "audit": {"path": f"{directory}/audit"},
        "providers": {"emulated": provider},
        "issuers": [{"name": _ISSUER, "url": f"https://id.example.com/{_ISSUER}", "series": [series]}],
        "grants": [{"caller": "local", "roles": roles, **everything}],
    }


def _announce(addresses: Mapping[str, str], title: str, output: str) -> None:
    if output == "json":
        click.echo(json.dumps(dict(addresses)))
        return
    grpc, http = addresses["grpc"], addresses["http"]
    request = json.dumps({"issuer": f"issuers/{_ISSUER}", "subject": "user-1", "claims_json": '{"scope": "demo"}'})
    click.echo(
        f"Sealwright runs on {title}. Press Ctrl-C to end it.\n\n"
        f"  JWK Set  http://{http}/{_ISSUER}/.well-known/jwks.json\n"
        f"  metrics  http://{addresses['admin']}/metrics\n\n"
        f"Sign a token:\n\n"
        f'  sealwright sign {_ISSUER} --plaintext --address {grpc} --subject user-1 --claims \'{{"scope": "demo"}}\'\n\n'
        f"or with grpcurl:\n\n"
        f"  grpcurl -plaintext -d '{request}' {grpc} sealwright.v1.SigningService/SignJwt\n",
    )
