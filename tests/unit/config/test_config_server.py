"""Listeners: their addresses, and where plaintext is allowed."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from sealwright.server.addresses import Address, CannotListenError, UnixSocket, parse_address, parse_address_or_socket

from .samples import problems, sample


def server(*, tls: bool = False, **values: Any) -> dict[str, Any]:
    document = sample()
    kept = document["server"]["tls"]
    document["server"] = {**({"tls": kept} if tls else {}), **values}
    return document


@pytest.mark.parametrize(
    "values",
    [
        {"insecure_local": True},
        {"insecure_local": True, "grpc": "localhost:0", "http": "[::1]:0", "admin": "127.0.0.2:0"},
        {"insecure_local": True, "http": "0.0.0.0:8080", "http_plaintext": True},
        {"insecure_local": True, "grpc": "unix:/run/sealwright/grpc.sock"},
        {"grpc": "unix:/run/sealwright/grpc.sock", "http_plaintext": True, "http": "0.0.0.0:8080"},
        {"tls": True, "grpc": "0.0.0.0:8443", "http": "[::]:443"},
        {"tls": True, "grpc": "unix:/run/sealwright/grpc.sock", "http": "0.0.0.0:443"},
        {"tls": True, "http": "0.0.0.0:80", "http_plaintext": True, "workers": 8},
    ],
)
def test_plaintext_that_stays_here_and_tls_are_allowed(values: dict[str, Any]) -> None:
    assert problems(server(**values)) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, ["server.tls: must be given (or insecure_local = true, on loopback)"]),
        ({"http_plaintext": True}, ["server.tls: must be given (or insecure_local = true, on loopback)"]),
        (
            {"grpc": "unix:/run/s.sock"},
            ["server.tls: must be given (or insecure_local = true, on loopback)"],
        ),
        (
            {"insecure_local": True, "grpc": "0.0.0.0:8443"},
            ["server.grpc: must be a loopback address, because insecure_local is set"],
        ),
        (
            {"insecure_local": True, "grpc": "sealwright.internal:8443"},
            ["server.grpc: must be a loopback address, because insecure_local is set"],
        ),
        (
            {"insecure_local": True, "http": "10.0.0.1:8080"},
            ["server.http: must be a loopback address, because insecure_local is set (or set http_plaintext = true)"],
        ),
        ({"tls": True, "admin": "0.0.0.0:9090"}, ["server.admin: must be a loopback address"]),
        (
            {"tls": True, "insecure_local": True},
            ["server.tls: has no effect, because insecure_local is set; remove one of them"],
        ),
        (
            {"tls": True, "grpc": "unix:/run/s.sock", "workers": 2},
            ["server.workers: must be 1, because only one worker can listen on a Unix socket"],
        ),
        ({"tls": True, "http": "127.0.0.1:8443"}, ["server.http: must differ from grpc"]),
        ({"tls": True, "admin": "127.0.0.1:8080"}, ["server.admin: must differ from http"]),
        ({"tls": True, "admin": "127.0.0.1:8443"}, ["server.admin: must differ from grpc"]),
        (
            {"insecure_local": True, "grpc": "0.0.0.0:1", "http": "0.0.0.0:2", "admin": "0.0.0.0:3"},
            [
                "server.grpc: must be a loopback address, because insecure_local is set",
                "server.http: must be a loopback address, because insecure_local is set (or set http_plaintext = true)",
                "server.admin: must be a loopback address",
            ],
        ),
    ],
)
def test_plaintext_that_others_could_reach_is_refused(values: dict[str, Any], expected: list[str]) -> None:
    assert problems(server(**values)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1",
        "host",
        "host:",
        "host:x",
        "host:65536",
        "host:-1",
        "host:1:2",
        "::1:80",
        "[::1]",
        "a b:1",
        "host:٣",
        "http://h:1",
        "h/a:1",
        "unix:relative.sock",
        "unix:",
        "unix:/a\x00b",
        "unix:/" + "a" * 107,
        "unix://"[:5] + "//" * 60,
    ],
)
def test_a_text_that_is_not_an_address_is_refused(text: str) -> None:
    found = problems(server(tls=True, grpc=text))
    assert [p.split(":")[0] for p in found] == ["server.grpc"]


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback"),
    [
        ("127.0.0.1:8443", "127.0.0.1", 8443, True),
        ("[::1]:0", "::1", 0, True),
        ("localhost:65535", "localhost", 65535, True),
        ("[2001:db8::1]:1", "2001:db8::1", 1, False),
        ("0.0.0.0:1", "0.0.0.0", 1, False),  # noqa: S104 - an example
        ("[::]:1", "::", 1, False),
        ("localhost.evil.example:1", "localhost.evil.example", 1, False),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, host: str, port: int, *, loopback: bool) -> None:
    address = parse_address(text)
    assert address == Address(host, port)
    assert address.loopback is loopback
    assert str(address) == text
    assert parse_address(address) is address
    assert parse_address_or_socket(text) == address


def test_a_unix_socket_is_read_and_written_alike() -> None:
    address = parse_address_or_socket("unix:/run/sealwright/grpc.sock")
    assert address == UnixSocket("/run/sealwright/grpc.sock")
    assert address.loopback
    assert str(address) == "unix:/run/sealwright/grpc.sock"
    assert parse_address_or_socket(address) is address


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (OSError(errno.EADDRINUSE, "error while attempting to bind on address"), "Address already in use"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (OSError("without a number"), "it is in use, or is not an address of this machine"),
    ],
)
def test_a_listener_that_cannot_listen_names_its_setting_and_its_address(cause: OSError, reason: str) -> None:
    error = CannotListenError("grpc", Address("::1", 8443), cause)
    assert error.problems == (f"server.grpc: cannot listen on [::1]:8443: {reason}",)


@pytest.mark.parametrize("name", ["grpc", "http", "admin"])
@pytest.mark.parametrize("value", [8443, None, ["127.0.0.1:1"], {"host": "127.0.0.1", "port": 1}])
def test_an_address_is_a_text(name: str, value: Any) -> None:
    assert problems(server(tls=True, **{name: value})) == [f"server.{name}: must be text"]


@pytest.mark.parametrize("name", ["http", "admin"])
def test_only_grpc_listens_on_a_unix_socket(name: str) -> None:
    assert problems(server(tls=True, **{name: "unix:/run/s.sock"})) == [f"server.{name}: must be host:port"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "state.db",
        "sqlite://",
        "sqlite:///state.db",
        "sqlite:///:memory:",
        "sqlite://host//a.db",
        "sqlite://u:p@h//a.db",
        "sqlite:////a.db?mode=memory",
        "sqlite+aiosqlite:////a.db",
        "mysql://u:p@h/d",
        "postgresql://h:port/d",
        "sqlite:////a\x00",
    ],
)
def test_a_store_that_cannot_be_kept_is_refused_without_its_url(url: str) -> None:
    document = sample()
    document["store"]["url"] = url
    (problem,) = problems(document)
    assert problem.startswith("store.url: must ")
    assert "u:p" not in problem
