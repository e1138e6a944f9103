"""A fast fake KMS for benchmarks: signatures cost it little, so that the service and the bare client are what is measured.

`.venv/bin/python benchmarks/fast_kms.py aws|azure|gcp` prints one line of JSON when it listens, like `sealwright-emulator`. It is a
front of the emulator of that kind: it makes the signatures itself, with the emulator's keys, and forwards every other call. It
checks neither who calls nor whether the call is right, so it is of no use for tests. It speaks TLS.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import signal
import ssl
import sys
import tempfile
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import uvloop

Sign = Callable[[bytes, bytes], bytes | None]
"""Head and body of a request in; the JSON of the answer out, or None: forward it."""


class Front(asyncio.Protocol):
    """One connection of a client, HTTP/1.1 with Content-Length."""

    def __init__(self, sign: Sign, behind: tuple[str, int, ssl.SSLContext | None]) -> None:
        self._sign = sign
        self._behind = behind
        self._received = b""
        self._jobs: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: Any) -> None:
        """See asyncio.Protocol."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._received += data
        while True:
            head, found, rest = self._received.partition(b"\r\n\r\n")
            length = content_length(head)
            if not found or len(rest) < length:
                return
            self._received = rest[length:]
            self._answer(head, rest[:length])

    def _answer(self, head: bytes, body: bytes) -> None:
        if b"100-continue" in head.lower():
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        made = self._sign(head, body)
        if made is None:
            job = asyncio.ensure_future(self._forward(head + b"\r\n\r\n" + body))
            self._jobs.add(job)
            job.add_done_callback(self._jobs.discard)
            return
        lines = (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-amzn-RequestId: 1\r\nContent-Length: %d\r\n\r\n"
        )
        self._transport.write(lines % len(made) + made)

    async def _forward(self, request: bytes) -> None:
        host, port, context = self._behind
        reader, writer = await asyncio.open_connection(
            host, port, ssl=context, server_hostname="localhost" if context else None
        )
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        self._transport.write(head + await reader.readexactly(content_length(head)))
        writer.close()


def content_length(head: bytes) -> int:
    """Return the Content-Length of a head; 0: it has none."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def until_stopped() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


def announce(**details: str) -> None:
    """Print the line that says where it listens."""
    sys.stdout.write(json.dumps(details) + "\n")
    sys.stdout.flush()


async def listen(sign: Sign, context: ssl.SSLContext, behind: tuple[str, int, ssl.SSLContext | None]) -> int:
    """Listen over TLS and return the port."""
    server = await asyncio.get_running_loop().create_server(lambda: Front(sign, behind), "127.0.0.1", 0, ssl=context)
    port: int = server.sockets[0].getsockname()[1]
    return port


async def aws() -> None:
    """Run the fast AWS KMS."""
    from sealwright_testing.emulators.aws import AwsEmulator  # noqa: PLC0415 - each kind needs its own SDK only
    from sealwright_testing.emulators.aws.signing import sign as signature_of  # noqa: PLC0415
    from sealwright_testing.emulators.aws.specs import MessageType, SigningAlgorithm  # noqa: PLC0415
    from sealwright_testing.emulators.azure.ca import Authority  # noqa: PLC0415

    stopping = until_stopped()
    async with AwsEmulator() as emulator:
        algorithms = {a.value: a for a in SigningAlgorithm}

        def sign(head: bytes, body: bytes) -> bytes | None:
            if b"TrentService.Sign\r\n" not in head + b"\r\n":
                return None
            asked = json.loads(body)
            key: Any = emulator.store.get(asked["KeyId"].rpartition("/")[2])
            algorithm = algorithms[asked["SigningAlgorithm"]]
            value = signature_of(
                key.material, algorithm, base64.b64decode(asked["Message"]), MessageType(asked["MessageType"])
            )
            text = base64.b64encode(value).decode()
            return json.dumps({"KeyId": key.arn, "Signature": text, "SigningAlgorithm": algorithm.value}).encode()

        authority = Authority()
        behind = urlsplit(emulator.endpoint)
        port = await listen(sign, authority.context, (behind.hostname or "", behind.port or 0, None))
        announce(endpoint=f"https://localhost:{port}", ca=str(authority.path))
        await stopping.wait()
        authority.close()


async def azure() -> None:
    """Run the fast Key Vault."""
    from sealwright_testing.emulators.azure import AzureEmulator  # noqa: PLC0415
    from sealwright_testing.emulators.azure.signing import decode, encode  # noqa: PLC0415
    from sealwright_testing.emulators.azure.signing import sign as signature_of  # noqa: PLC0415

    stopping = until_stopped()
    async with AzureEmulator() as emulator:

        def sign(head: bytes, body: bytes) -> bytes | None:
            path = head.partition(b" ")[2].partition(b"?")[0].decode()
            if not path.endswith("/sign") or b"\r\nauthorization: bearer" not in head.lower():
                return None
            name, version = path.split("/")[2:4]
            asked = json.loads(body)
            key = emulator.vault.keys.find(name, version)
            value = signature_of(key.material, asked["alg"], decode(asked["value"]))
            return json.dumps({"kid": kid(name, version), "value": encode(value)}).encode()

        context = ssl.create_default_context(cafile=emulator.ca)
        authority: Any = emulator._authority  # noqa: SLF001
        port = await listen(sign, authority.context, ("127.0.0.1", emulator._port, context))  # noqa: SLF001

        def kid(name: str, version: str) -> str:
            return f"{vault_url}/keys/{name}/{version}"

        vault_url = emulator.vault_url.rpartition(":")[0] + f":{port}"
        announce(**{**emulator.details(), "endpoint": f"https://localhost:{port}", "vault_url": vault_url})
        await stopping.wait()


async def gcp() -> None:
    """Run the fast Cloud KMS."""
    import google_crc32c  # noqa: PLC0415
    import grpc  # noqa: PLC0415
    from google.cloud.kms_v1.types import service  # noqa: PLC0415

    from sealwright_testing.emulators.gcp import GcpEmulator  # noqa: PLC0415
    from sealwright_testing.emulators.gcp.tls import Authority  # noqa: PLC0415

    stopping = until_stopped()
    request_type: Any = service.AsymmetricSignRequest.pb()
    answer_type: Any = service.AsymmetricSignResponse.pb()
    with GcpEmulator() as emulator:
        channel = grpc.aio.insecure_channel(emulator.address)
        versions: dict[str, Any] = {}

        async def sign(raw: bytes, _context: Any) -> bytes:
            asked = request_type.FromString(raw)
            version = versions.get(asked.name)
            if version is None:
                version = versions[asked.name] = emulator._version(asked.name)  # noqa: SLF001
            which = asked.digest.WhichOneof("digest")
            value = version.spec.sign(version.material, getattr(asked.digest, which) if which else asked.data)
            answer = answer_type(signature=value, name=asked.name, verified_digest_crc32c=True)
            answer.signature_crc32c.value = google_crc32c.value(value)
            return bytes(answer.SerializeToString())

        class Handler(grpc.GenericRpcHandler):
            def service(self, details: Any) -> Any:
                if details.method.endswith("/AsymmetricSign"):
                    return grpc.unary_unary_rpc_method_handler(sign)
                call: Any = channel.unary_unary(details.method)

                async def forward(raw: bytes, context: Any) -> bytes:
                    try:
                        return bytes(await call(raw, metadata=tuple(context.invocation_metadata())))
                    except grpc.aio.AioRpcError as error:
                        await context.abort(error.code(), error.details() or "", error.trailing_metadata() or ())
                        raise

                return grpc.unary_unary_rpc_method_handler(forward)

        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Handler(),))
        authority = Authority(("localhost",))
        pair = (authority.key, authority.certificate)
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        await server.start()
        with tempfile.NamedTemporaryFile() as ca:
            ca.write(authority.ca)
            ca.flush()
            announce(endpoint=f"https://localhost:{port}", ca=ca.name)
            await stopping.wait()
        await server.stop(None)


def main() -> None:
    """Run one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("aws", "azure", "gcp"))
    uvloop.run({"aws": aws, "azure": azure, "gcp": gcp}[parser.parse_args().kind]())


if __name__ == "__main__":
    main()
