"""The subcommand `sealwright-emulator gcp`. It imports the emulator only when it runs, since that needs google-cloud-kms."""

from __future__ import annotations

from pathlib import Path

import click

from .serving import serve


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Port to listen on; 0 takes a free one."
)
@click.option("--project", default="sealwright-test", show_default=True, help="Project of the key ring.")
@click.option("--location", default="europe-west1", show_default=True, help="Location of the key ring.")
@click.option("--key-ring", default="tokens", show_default=True, help="Key ring that exists from the start.")
@click.option("--tls", is_flag=True, help="Speak TLS and ask for a bearer token. The line then has the path of the CA.")
@click.option("--control", is_flag=True, help="Take faults over HTTP too. The line then has the URL as `control`.")
def gcp(*, host: str, port: int, project: str, location: str, key_ring: str, tls: bool, control: bool) -> None:
    """Emulate the gRPC API of Google Cloud KMS, in plaintext unless told otherwise."""
    try:
        from .gcp import GcpEmulator  # noqa: PLC0415
        from .gcp.control import ControlledEmulator  # noqa: PLC0415
    except ImportError as error:
        raise click.ClickException("google-cloud-kms is not installed: install sealwright[gcp]") from error
    emulator = GcpEmulator(host=host, port=port, project=project, location=location, key_ring=key_ring, tls=tls)
    ca = Path(emulator.write_ca()) if tls else None
    try:
        controlled = ControlledEmulator(emulator, host)
        extra = controlled.extra if control else dict[str, str]()
        if ca is not None:
            extra["ca"] = str(ca)
        serve(controlled if control else emulator, lambda: extra)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror}") from error
    finally:
        if ca is not None:
            ca.unlink(missing_ok=True)
