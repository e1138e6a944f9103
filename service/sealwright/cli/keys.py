"""`sealwright keys`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC
from typing import Any, Final

import click
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from rich.text import Text

from sealwright.cli.arguments import KidCommand, issuer_argument
from sealwright.cli.connection import Target, ask, channel, connection_options
from sealwright.cli.lazily import LazyGroup
from sealwright.cli.output import output_option, show
from sealwright.cli.tables import show_table
from sealwright.v1.keys_pb2 import Key, ListKeysRequest, RevokeKeysRequest, RotateKeysRequest
from sealwright.v1.keys_pb2_grpc import KeyServiceStub

_STYLES = {"ACTIVE": "green", "STANDBY": "cyan", "RETIRED": "yellow", "REVOKED": "red"}


_MODULES: Final = {"orphans": "sealwright.cli.orphans", "unblock": "sealwright.cli.orphans"}
"""Commands that need no service, and so load much that the others do not."""


@click.group(cls=LazyGroup, modules=_MODULES)
def keys() -> None:
    """List, rotate and revoke keys, and find orphans."""


@keys.command("list")
@issuer_argument
@connection_options
@output_option
def list_keys(issuer: str, target: Target, output: str) -> None:
    """List the keys of ISSUER, including withdrawn and revoked keys."""
    found: list[Key] = []
    with channel(target) as opened:
        request = ListKeysRequest(parent=issuer)
        while True:
            page = ask(KeyServiceStub(opened).ListKeys, request, target, output)
            found += page.keys
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
    _show_keys(output, found)


@keys.command()
@issuer_argument
@click.option("--series", default="", help="Rotate this series only. Default: all series of the issuer.")
@click.option(
    "--expected-kid",
    default="",
    help="Retire only this key, and only if it is active, so that a repeated command changes nothing.",
)
@click.option("--dry-run", is_flag=True, help="Show the result without changing anything.")
@connection_options
@output_option
def rotate(issuer: str, series: str, expected_kid: str, dry_run: bool, target: Target, output: str) -> None:
    """Retire the active keys of ISSUER, so that their standbys sign.

    The retired keys stay in the JWK Set until their last token has expired. If a standby is so new that some verifiers may not
    have fetched it yet, nothing changes, and the error contains the earliest time.
    """
    request = RotateKeysRequest(issuer=issuer, series=series, expected_kid=expected_kid, validate_only=dry_run)
    with channel(target) as opened:
        answer = ask(KeyServiceStub(opened).RotateKeys, request, target, output)
    _show_keys(output, answer.keys)
    for warning in answer.warnings:
        click.echo(f"warning: {warning}", err=True)


@keys.command(cls=KidCommand)
@issuer_argument
@click.argument("kid", required=False, default="")
@click.option(
    "--provider",
    default="",
    help="Instead of KID: revoke all keys that this provider's credentials can use, of every issuer.",
)
@click.option("--reason", required=True, help="Reason, for the audit.")
@click.option("--dry-run", is_flag=True, help="Show the result without changing anything.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@connection_options
@output_option
def revoke(
    issuer: str,
    kid: str,
    provider: str,
    reason: str,
    dry_run: bool,
    yes: bool,
    target: Target,
    output: str,
) -> None:
    """Remove key KID of ISSUER from use and from the JWK Set, immediately and permanently.

    Tokens signed with it stop verifying. The output says how many there are, by estimate, and until when caches may hold the
    key. --dry-run shows this without revoking.
    """
    if bool(kid) == bool(provider):
        raise click.UsageError("give either KID or --provider")
    if not (yes or dry_run):
        click.confirm(
            f"Revoke {kid or f'all keys of provider {provider}'}? Tokens signed with it stop verifying",
            abort=True,
            err=True,
        )
    name = f"{issuer}/keys/{kid}" if kid else ""
    request = RevokeKeysRequest(name=name, provider=provider, reason=reason, validate_only=dry_run)
    with channel(target) as opened:
        done = ask(KeyServiceStub(opened).RevokeKeys, request, target, output)
    if output == "json":
        show(output, "", MessageToDict(done, preserving_proto_field_name=True))
        return
    _show_keys(output, done.keys)
    lines = [f"tokens that stop verifying (estimate): {done.estimated_live_tokens}"]
    lines.append(f"caches may hold the keys until: {_time(done.verifier_cache_until)} UTC")
    lines.append(f"verifiers that ignore Cache-Control may hold them until: {_time(done.verifier_refresh_until)} UTC")
    lines += [f"replica that has not read the revocation: {name}" for name in done.stale_replicas]
    lines += [f"warning: {w}" for w in done.warnings]
    click.echo("\n".join(lines))


def _show_keys(output: str, found: Sequence[Key]) -> None:
    if output == "json":
        show(output, "", [MessageToDict(k, preserving_proto_field_name=True) for k in found])
        return
    rows: list[list[Text]] = []
    for key in found:
        state = Key.State.Name(key.state).removeprefix("STATE_")
        plain = [key.algorithm, key.series, key.provider, *_times(key, ("ready_time", "retire_time", "withdraw_time"))]
        rows.append([Text(key.kid), Text(state, _STYLES.get(state, "dim")), *map(Text, plain)])
    show_table(("kid", "state", "algorithm", "series", "provider", "ready", "retired", "withdrawn"), rows)


def _times(key: Key, names: Iterable[Any]) -> list[str]:
    return [_time(getattr(key, n)) if key.HasField(n) else "" for n in names]


def _time(time: Timestamp) -> str:
    return f"{time.ToDatetime(UTC):%Y-%m-%d %H:%M:%S}"
