"""What must hold at the end: records of all tokens, no orphans, and the same bytes everywhere."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp

from support.document import CREDENTIALS

from .database import Pair
from .hosts import ISSUERS, Host
from .kms import Kms
from .ledger import MISSING, ORPHANS, Ledger

_SECONDS = 40
_TIMEOUT = aiohttp.ClientTimeout(total=5)
_GONE = "PendingDeletion"


async def same_sets(hosts: Sequence[Host], http: aiohttp.ClientSession, ledger: Ledger) -> None:
    """Require that all replicas serve the same bytes and entity tags. Between two looks a step may have been taken."""
    end = time.monotonic() + _SECONDS
    different: list[str] = list(ISSUERS)
    while different and time.monotonic() < end:
        different = []
        for issuer in ISSUERS:
            answers = await asyncio.gather(*(_set(h, issuer, http) for h in hosts))
            if None in answers or len(set(answers)) != 1:
                different.append(issuer)
        await asyncio.sleep(0.2)
    ledger.count("at the end", "issuers with one JWK Set everywhere", len(ISSUERS) - len(different))
    for issuer in different:
        ledger.violate("replicas that serve different sets", issuer)


async def _set(host: Host, issuer: str, http: aiohttp.ClientSession) -> tuple[bytes, str] | None:
    address = host.http
    assert isinstance(address, tuple)
    url = f"http://{address[0]}:{address[1]}/{issuer}/.well-known/jwks.json"
    try:
        async with http.get(url, timeout=_TIMEOUT) as answer:
            return (await answer.read(), answer.headers["ETag"]) if answer.ok else None
    except (aiohttp.ClientError, TimeoutError):
        return None


async def no_orphans(kms: Sequence[Kms], database: Pair, config: str, ledger: Ledger) -> None:
    """Require that each KMS key is one of the store, belongs to an open intent, or is to be deleted.

    What a lost answer has left is found and deleted within a while, so this looks until there is none. `sealwright keys orphans`
    must agree.
    """
    end = time.monotonic() + _SECONDS
    while True:
        orphans = await _orphans(kms, database, ledger)
        if not orphans or time.monotonic() > end:
            break
        await asyncio.sleep(1)
    for orphan in orphans:
        ledger.violate(ORPHANS, orphan)
    await _command_agrees(config, ledger)


async def _command_agrees(config: str, ledger: Ledger) -> None:
    """Require that `sealwright keys orphans` finds none. While a key is being created, it cannot know."""
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        status, out = await run("keys", "orphans", "--config", config, "--output", "json")
        if not status:
            return
        if not json.loads(out)["searched_for"]:
            ledger.violate(ORPHANS, f"`sealwright keys orphans` says: {out}")
            return


async def _orphans(kms: Sequence[Kms], database: Pair, ledger: Ledger) -> list[str]:
    # The KMSs first: a key that is made after that has its intent already.
    found = {arn: key for k in kms for arn, key in (await k.keys()).items()}
    rows = await asyncio.to_thread(database.execute, "SELECT uri FROM keys")
    intents = await asyncio.to_thread(database.execute, "SELECT intent_id FROM intents WHERE close_time IS NULL")
    known, opened = set(rows.split()), set(intents.split())
    kinds: Counter[str] = Counter()
    orphans = []
    for arn, key in found.items():
        if key["state"] == _GONE:
            kinds["keys in the KMSs to be deleted"] += 1
        elif f"awskms:///{arn}" in known:
            kinds["keys in the KMSs and in the store"] += 1
        elif key["tags"].get("sealwright:intent") in opened:
            kinds["keys in the KMSs of open intents"] += 1
        else:
            orphans.append(f"{key['key_id']} ({key['state']}), intent {key['tags'].get('sealwright:intent')}")
    ledger.counts.setdefault("at the end", Counter()).update(kinds - ledger.counts.get("at the end", Counter()))
    return orphans


async def run(*words: str) -> tuple[int, str]:
    """Run `sealwright`, and return its exit status and output."""
    program = str(Path(sys.executable).with_name("sealwright"))
    process = await asyncio.create_subprocess_exec(
        program, *words, stdout=asyncio.subprocess.PIPE, env={**os.environ, **CREDENTIALS}
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


def audited(hosts: Sequence[Host], ledger: Ledger) -> None:
    """Require that the audit of each host has no gap, and that every token has one record, on the host that released it."""
    for host in hosts:
        allowed: Counter[str] = Counter()
        withheld: set[str] = set()
        files = 0
        for file in host.audit.glob("*.jsonl"):
            files += 1
            for record in _records(file, ledger):
                if record["event"] == "sign" and record["outcome"] == "allowed":
                    allowed[record["jti"]] += 1
                elif record["event"] == "sign" and record["outcome"] == "withheld":
                    withheld.add(record["jti"])
        ledger.count("at the end", f"audit files of {host.name}", files)
        for token in ledger.tokens:
            if token.host == host.name and (allowed[token.jti] != 1 or token.jti in withheld):
                ledger.violate(MISSING, str(token))
        ledger.count("at the end", f"records of signatures of {host.name}", allowed.total())


def _records(file: Path, ledger: Ledger) -> list[dict[str, Any]]:
    lines = file.read_bytes().split(b"\n")
    if lines.pop():
        ledger.count("at the end", "audit files that end in the middle of a record")  # its process was killed
    records = [json.loads(line) for line in lines]
    if [r["sequence"] for r in records] != list(range(1, len(records) + 1)):
        ledger.violate("an audit file with a gap", file.name)
    return records


def not_idle(ledger: Ledger, seconds: float, rotations: int) -> None:
    """Require that enough has happened for the rest to mean something."""
    if len(ledger.tokens) < 3 * seconds:
        ledger.violate("an idle run", f"{len(ledger.tokens)} tokens in {seconds:.0f} s")
    if rotations < seconds / 10:
        ledger.violate("an idle run", f"{rotations} rotations in {seconds:.0f} s")
    for group, counter in ledger.counts.items():
        if group.startswith("verified by") and counter["accepted"] < seconds:
            ledger.violate("an idle run", f"{group}: {counter['accepted']} accepted")
