"""`sealwright dev`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import click

from sealwright.cli.output import fail, output_option
from sealwright.cli.serve import failures, log_to_stderr
from sealwright.config import parse

_ISSUER = "dev"
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


@click.command()
@click.option("--grpc", default="127.0.0.1:0", show_default=True, help="Address for callers. Port 0: any free port.")
@click.option("--http", default="127.0.0.1:0", show_default=True, help="Address for verifiers. Port 0: any free port.")
@click.option("--algorithm", default="ES256", show_default=True, help="JWS algorithm of the issuer.")
@output_option
def dev(grpc: str, http: str, algorithm: str, output: str) -> None:
    """Run the service on an emulated AWS KMS, in the foreground, with an issuer called `dev`.

    All data is in a temporary directory, which is deleted when the command ends, with Ctrl-C. Connections are plaintext on
    loopback, and the local caller may do everything. The command needs `pip install sealwright-testing`.
    """
    log_to_stderr("warning")
    # Imported here, so that `--help` does not load gRPC.
    from sealwright.app import build  # noqa: PLC0415
    from sealwright.server.worker import run_worker  # noqa: PLC0415

    with failures(output), tempfile.TemporaryDirectory(prefix="sealwright-dev-") as directory:
        os.environ.update(_CREDENTIALS)
        with _emulator(output) as endpoint:
            config = parse(_document(directory, endpoint, grpc, http, algorithm))
            run_worker(lambda: build(config), lambda addresses: _announce(addresses, output))


@contextlib.contextmanager
def _emulator(output: str) -> Iterator[str]:
    command = (sys.executable, "-m", "sealwright_testing", "aws", "--port", "0")
    # In its own session, so that Ctrl-C does not reach it: the service must drain before its KMS ends.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)  # noqa: S603 - our own module
    try:
        line = process.stdout.readline() if process.stdout else b""
        if not line:
            fail(output, ["the emulator did not start; run: pip install sealwright-testing"])
        yield json.loads(line)["endpoint"]
    finally:
        process.terminate()
        process.wait()


def _document(directory: str, endpoint: str, grpc: str, http: str, algorithm: str) -> dict[str, Any]:
    everything = {"issuers": ["*"], "subjects": ["**"], "audiences": ["**"], "token_types": ["*"]}
    roles = ["signer", "rotator", "revoker", "auditor"]
    series = {"name": algorithm.lower(), "algorithm": algorithm, "provider": "emulated"}
    return {
        "server": {"grpc": grpc, "http": http, "admin": "127.0.0.1:0", "insecure_local": True, "reflection": True},
        "store": {"url": f"sqlite:///{directory}/state.db"},
        "audit": {"path": f"{directory}/audit"},
        "providers": {"emulated": {"kind": "aws", "region": "eu-west-1", "endpoint_url": endpoint}},
        "issuers": [{"name": _ISSUER, "url": f"https://id.example.com/{_ISSUER}", "series": [series]}],
        "grants": [{"caller": "local", "roles": roles, **everything}],
    }


def _announce(addresses: Mapping[str, str], output: str) -> None:
    if output == "json":
        click.echo(json.dumps(dict(addresses)))
        return
    grpc, http = addresses["grpc"], addresses["http"]
    request = json.dumps({"issuer": f"issuers/{_ISSUER}", "subject": "user-1", "claims_json": '{"scope": "demo"}'})
    click.echo(
        f"Sealwright runs on an emulated AWS KMS. Press Ctrl-C to end it.\n\n"
        f"  JWK Set  http://{http}/{_ISSUER}/.well-known/jwks.json\n"
        f"  metrics  http://{addresses['admin']}/metrics\n\n"
        f"Sign a token:\n\n"
        f'  sealwright sign {_ISSUER} --plaintext --address {grpc} --subject user-1 --claims \'{{"scope": "demo"}}\'\n\n'
        f"or with grpcurl:\n\n"
        f"  grpcurl -plaintext -d '{request}' {grpc} sealwright.v1.SigningService/SignJwt\n",
    )
