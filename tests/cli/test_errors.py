"""F48: what commands print when a call fails, and what programs get."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from click.testing import CliRunner
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from sealwright.__main__ import main


class Handler(grpc.GenericRpcHandler):
    """A service that refuses each call in the way of Sealwright."""

    def service(self, handler_call_details: Any) -> Any:  # noqa: ARG002 - gRPC's signature
        return grpc.unary_unary_rpc_method_handler(self.refuse)

    @staticmethod
    def refuse(request: bytes, context: Any) -> bytes:  # noqa: ARG004 - gRPC's signature
        status = status_pb2.Status(code=7, message="no grant allows issuers/x")
        info = error_details_pb2.ErrorInfo(reason="CALLER_NOT_PERMITTED", metadata={"issuer": "issuers/x", "n": "3"})
        bad = error_details_pb2.BadRequest()
        bad.field_violations.add(field="", description="no grant allows issuers/x")
        for detail in (info, error_details_pb2.RequestInfo(request_id="r-1"), bad):
            status.details.add().Pack(detail)
        context.abort_with_status(rpc_status.to_status(status))
        return b""


class World:
    """A service with TLS, one without, and files of callers."""

    def __init__(self, directory: Path) -> None:
        servers, clients, others = trustme.CA(), trustme.CA(), trustme.CA()
        server = servers.issue_cert("127.0.0.1")
        for name, ca in (("ca", servers), ("wrong-ca", others)):
            ca.cert_pem.write_to_path(directory / f"{name}.pem")
        for name, ca in (("me", clients), ("stranger", others)):
            issued = ca.issue_cert("me.example.com")
            issued.private_key_pem.write_to_path(directory / f"{name}.key")
            issued.cert_chain_pems[0].write_to_path(directory / f"{name}.crt")
        (directory / "empty.pem").write_text("")
        credentials = grpc.ssl_server_credentials(
            [(server.private_key_pem.bytes(), server.cert_chain_pems[0].bytes())],
            root_certificates=clients.cert_pem.bytes(),
            require_client_auth=True,
        )
        self.directory = directory
        self.servers = [grpc.server(ThreadPoolExecutor(2), handlers=[Handler()]) for _ in range(2)]
        self.tls = f"127.0.0.1:{self.servers[0].add_secure_port('127.0.0.1:0', credentials)}"
        self.plain = f"127.0.0.1:{self.servers[1].add_insecure_port('127.0.0.1:0')}"
        for one in self.servers:
            one.start()

    def run(self, *options: str, output: str = "text") -> tuple[int, str, str]:
        options = tuple(o.replace("@", f"{self.directory}/") for o in options)
        done = CliRunner().invoke(main, ["jwks", "x", "--timeout", "5", "--output", output, *options])
        return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world"))
    yield made
    for one in made.servers:
        one.stop(None)


ME = ("--certificate", "@me.crt", "--private-key", "@me.key")
STRANGER = ("--certificate", "@stranger.crt", "--private-key", "@stranger.key")


def test_f48_a_refusal_is_printed_once_with_the_request_id(world: World) -> None:
    expected = [
        "error: PERMISSION_DENIED (CALLER_NOT_PERMITTED): no grant allows issuers/x",
        "error: n: 3",
        "error: request id: r-1",
    ]
    for options in (("--address", world.plain, "--plaintext"), ("--address", world.tls, "--ca", "@ca.pem", *ME)):
        status, out, err = world.run(*options)
        assert (status, out, err.splitlines()) == (1, "", expected)
    status, out, err = world.run("--address", world.plain, "--plaintext", output="json")
    assert (status, err) == (1, "")
    assert json.loads(out) == {
        "problems": ["PERMISSION_DENIED (CALLER_NOT_PERMITTED): no grant allows issuers/x", "n: 3"],
        "code": "PERMISSION_DENIED",
        "reason": "CALLER_NOT_PERMITTED",
        "metadata": {"issuer": "issuers/x", "n": "3"},
        "request_id": "r-1",
    }


@pytest.mark.parametrize(
    ("address", "options", "reason", "text"),
    [
        ("tls", ("--ca", "@ca.pem"), "CLIENT_CERTIFICATE_REQUIRED", "give --certificate and --private-key"),
        ("tls", ("--ca", "@ca.pem", *STRANGER), "CLIENT_CERTIFICATE_REFUSED", "must chain to the service's client_ca"),
        ("tls", ("--ca", "@wrong-ca.pem", *ME), "SERVICE_CERTIFICATE_NOT_TRUSTED", "--ca names the CA certificates"),
        ("tls", ME, "SERVICE_CERTIFICATE_NOT_TRUSTED", "--ca names the CA certificates"),
        ("tls", ("--plaintext",), "TLS_REQUIRED", "leave out --plaintext"),
        ("plain", ("--ca", "@ca.pem", *ME), "NOT_TLS", "does not use TLS"),
        ("127.0.0.1:1", ("--plaintext",), "SERVICE_UNREACHABLE", "Connection refused"),
        ("nothing.invalid:1", ("--ca", "@ca.pem"), "SERVICE_UNREACHABLE", "cannot be resolved"),
        ("unix:/none.sock", (), "SERVICE_UNREACHABLE", "No such file or directory"),
    ],
)
def test_f48_a_failed_connection_is_explained_in_our_words(
    world: World, address: str, options: tuple[str, ...], reason: str, text: str
) -> None:
    status, out, err = world.run("--address", getattr(world, address, address), *options)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"error: UNAVAILABLE ({reason}): ")
    assert text in err
    assert not any(word in err for word in ("SSL", "ipv4:", "Socket closed", "handshake", "errors resolving"))


def test_f48_a_service_that_never_answers_is_unreachable(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        done = CliRunner().invoke(main, ["jwks", "x", "--plaintext", "--timeout", "0.5", "--address", address])
    assert done.exit_code == 1
    assert "(SERVICE_UNREACHABLE): what listens at" in done.stderr
    assert world.directory.exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--plaintext", "--address", "10.0.0.1:8443"), "--plaintext: only to a loopback address"),
        (("--plaintext", "--address", "signer.internal:8443"), "--plaintext: only to a loopback address"),
        (("--plaintext", "--address", "127.0.0.1.example.com:8443"), "--plaintext: only to a loopback address"),
        (("--address", "signer"), "--address: must be host:port or unix:/path"),
        (("--address", "dns:///signer:1"), "--address: must be host:port or unix:/path"),
        (("--address", "signer:99999"), "--address: must be host:port or unix:/path"),
        (("--certificate", "@me.crt"), "--certificate, --private-key: give both or neither"),
        (("--ca", "@empty.pem"), "contains no certificates in PEM"),
        (("--certificate", "@me.crt", "--private-key", "@stranger.key"), "a certificate and its own private key"),
    ],
)
def test_f48_options_of_the_connection_that_cannot_work_are_status_2(
    world: World, options: tuple[str, ...], text: str
) -> None:
    status, out, err = world.run(*options)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert text in err
