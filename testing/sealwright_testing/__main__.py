"""The command `sealwright-emulator`, with a subcommand for each kind of provider."""

from __future__ import annotations

import click

from .emulators.gcp_command import gcp
from .emulators.serving import serve

_host = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
_port = click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Port to listen on; 0 takes a free one."
)


@click.group(name="sealwright-emulator", context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Emulate a KMS, with real keys and faults on demand, for tests.

    Prints one JSON line with the `endpoint` once it accepts connections, and serves until SIGTERM or SIGINT.
    """


@main.command()
@_host
@_port
@click.option("--region", default="eu-west-1", show_default=True, help="Region of the keys.")
@click.option("--account", default="111122223333", show_default=True, help="Account of the keys, twelve digits.")
@click.option("--access-key", default="test", show_default=True, help="ID of the access key that may sign requests.")
@click.option("--secret-key", default="test", show_default=True, help="Its secret.")
def aws(*, host: str, port: int, region: str, account: str, access_key: str, secret_key: str) -> None:
    """Emulate AWS KMS of one account in one Region, in plain HTTP.

    Faults, counts and keys are under /_emulator/ on the same port.
    """
    # Each subcommand imports only its own emulator, so that it does not need the dependencies of the others.
    from .emulators.aws import AwsEmulator  # noqa: PLC0415

    emulator = AwsEmulator(
        host=host, port=port, region=region, account=account, access_key=access_key, secret_key=secret_key
    )
    try:
        serve(emulator)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror}") from error


@main.command()
@_host
@_port
@click.option("--managed-hsm", is_flag=True, help="Emulate a Managed HSM instead of a vault.")
@click.option("--client-secret", default="test", show_default=True, help="Secret of the application that gets tokens.")
def azure(*, host: str, port: int, managed_hsm: bool, client_secret: str) -> None:
    """Emulate one Azure Key Vault or Managed HSM, and the endpoints that issue its tokens, over HTTPS.

    The line also has `ca`, the certificate to trust; `vault_url`, under which clients can verify challenges; and `tenant_id` and
    `client_id`. Faults, counts and keys are under /_emulator/ on the same port.
    """
    from .emulators.azure import AzureEmulator  # noqa: PLC0415

    emulator = AzureEmulator(host=host, port=port, managed_hsm=managed_hsm, client_secret=client_secret)
    try:
        serve(emulator, emulator.details)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror}") from error


@main.command()
def pkcs11() -> None:
    """Create a token of SoftHSM in a temporary directory.

    SoftHSM runs in the processes that load its module, with the configuration in SOFTHSM2_CONF. So the JSON line has no `endpoint`,
    but `module`, `token_label`, `pin_file` and `softhsm2_conf`.
    """
    from .softhsm import serve_token, softhsm_module  # noqa: PLC0415

    module = softhsm_module()
    if module is None:
        raise click.ClickException("softhsm2-util and its module are missing; install SoftHSM (Debian: softhsm2)")
    serve_token(module)


main.add_command(gcp)

if __name__ == "__main__":
    main()
