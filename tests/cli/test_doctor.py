"""`sealwright doctor`: what it finds before an incident, beside a service that runs."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sealwright_testing.emulators.aws import AwsEmulator, ThreadedAwsEmulator
from support.document import CREDENTIALS, document, issuer
from support.processes import BIN, process, write_config
from support.tls_files import DAY, NOW, Files, pem


@pytest.fixture
def emulator() -> Iterator[AwsEmulator]:
    with ThreadedAwsEmulator() as running:
        yield running


@pytest.fixture
def config(tmp_path: Path, emulator: AwsEmulator) -> dict[str, Any]:
    return document(tmp_path, emulator.endpoint, issuer("payments", "ES256", "RS256"))


def doctor(directory: Path, config: dict[str, Any], *more: str) -> tuple[int, dict[str, set[str]]]:
    """Run it, and return the exit status and the findings by level."""
    done = subprocess.run(  # noqa: S603 - our own command
        [str(BIN / "sealwright"), "doctor", "--config", write_config(directory, config), "--output", "json", *more],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", **CREDENTIALS},
    )
    assert "Traceback" not in done.stderr, done.stderr
    answer = json.loads(done.stdout)
    found: dict[str, set[str]] = {"ok": set(), "warning": set(), "problem": set()}
    for finding in answer["findings"]:
        found[finding["level"]].add(f"{finding['part']}: {finding['text']}")
    assert answer["problems"] == len([f for f in answer["findings"] if f["level"] == "problem"])
    return done.returncode, found


def one(texts: set[str], *words: str) -> str:
    """Return the only text with all these words."""
    (text,) = [t for t in texts if all(w in t for w in words)]
    return text


def start(directory: Path, config: dict[str, Any]) -> None:
    """Let the service make its keys."""
    with process(directory, "sealwright", "serve", "--config", write_config(directory, config)):
        pass


def test_f43_a_service_that_is_well(tmp_path: Path, config: dict[str, Any]) -> None:
    path = write_config(tmp_path, config)
    with process(tmp_path, "sealwright", "serve", "--config", path):
        status, found = doctor(tmp_path, config)
    assert (status, found["problem"]) == (0, set())
    assert sum("can be read and signs" in t for t in found["ok"]) == 4
    assert one(found["ok"], "providers.aws", "the credentials belong to 111122223333")
    assert one(found["ok"], "the clock of this machine agrees with the KMS's")
    assert one(found["ok"], "store: revision", "4 keys")


def test_f43_it_changes_nothing(tmp_path: Path, config: dict[str, Any], emulator: AwsEmulator) -> None:
    status, found = doctor(tmp_path, config)
    assert status == 0
    assert one(found["ok"], "store: does not exist yet")
    assert not list(tmp_path.glob("state.db*"))
    assert not (tmp_path / "audit").exists()
    assert not emulator.keys


def test_f43_a_key_that_does_not_sign(tmp_path: Path, config: dict[str, Any], emulator: AwsEmulator) -> None:
    start(tmp_path, config)
    emulator.add_fault("error", operation="Sign", type="AccessDeniedException", status=400)
    status, found = doctor(tmp_path, config)
    assert status == 1
    assert len([t for t in found["problem"] if "PROVIDER_ACCESS_DENIED" in t and "/keys/" in t]) == 4
    assert not any("arn:" in t for texts in found.values() for t in texts)


def test_f43_a_provider_that_does_not_answer(tmp_path: Path, config: dict[str, Any]) -> None:
    config["providers"]["aws"]["endpoint_url"] = "http://127.0.0.1:9"
    status, found = doctor(tmp_path, config)
    assert status == 1
    assert one(found["problem"], "providers.aws: does not answer", "PROVIDER_UNAVAILABLE")
    status, found = doctor(tmp_path, config, "--offline")
    assert (status, found["problem"]) == (0, set())


def test_f43_credentials_of_another_account(tmp_path: Path, config: dict[str, Any]) -> None:
    config["providers"]["aws"]["account"] = "999988887777"
    status, found = doctor(tmp_path, config)
    assert status == 1
    assert one(found["problem"], "account 111122223333", "999988887777")


def test_f43_a_store_that_is_gone_or_older(tmp_path: Path, config: dict[str, Any]) -> None:
    start(tmp_path, config)
    for file in tmp_path.glob("state.db*"):
        file.unlink()
    status, found = doctor(tmp_path, config, "--offline")
    assert status == 1
    assert one(found["problem"], "store: the store is gone")


def test_f43_a_store_that_is_not_one(tmp_path: Path, config: dict[str, Any]) -> None:
    (tmp_path / "state.db").write_bytes(b"not a database, but long enough to have a header of one" * 10)
    status, found = doctor(tmp_path, config, "--offline")
    assert status == 1
    assert one(found["problem"], "store: ")


def test_f43_an_issuer_that_the_configuration_does_not_name(tmp_path: Path, config: dict[str, Any]) -> None:
    start(tmp_path, config)
    config["issuers"] = [issuer("logins")]
    _, found = doctor(tmp_path, config, "--offline")
    assert one(found["warning"], "issuer payments is in the store, but not in the configuration")


def test_f43_an_address_that_is_not_of_this_host(tmp_path: Path, config: dict[str, Any]) -> None:
    config["server"] |= {"http": "192.0.2.1:0", "http_plaintext": True}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config["server"]["admin"] = f"127.0.0.1:{taken.getsockname()[1]}"
        status, found = doctor(tmp_path, config, "--offline")
    assert status == 1
    assert one(found["problem"], "server.http: 192.0.2.1:0")
    assert one(found["ok"], "server.admin", "in use")


@pytest.mark.parametrize(
    ("days", "level", "words"),
    [(-1, "problem", "expired at"), (10, "warning", "renew it"), (200, "ok", "is valid until")],
)
def test_f43_a_certificate_that_expires(
    tmp_path: Path, config: dict[str, Any], days: int, level: str, words: str
) -> None:
    files = Files(tmp_path)
    files.write("certificate", pem(files.certificate(files.key, start=NOW - 100 * DAY, end=NOW + days * DAY)))
    config["server"] |= {"insecure_local": False, "tls": {n: str(p) for n, p in files.paths.items()}}
    files.paths["private_key"].chmod(0o644)
    status, found = doctor(tmp_path, config, "--offline")
    assert one(found[level], "tls: ", words)
    assert one(found["warning"], "private_key", "other users may read")
    assert status == (1 if level == "problem" else 0)


def test_f43_a_disk_without_room(tmp_path: Path, config: dict[str, Any]) -> None:
    config["audit"]["path"] = "/proc/audit"
    status, found = doctor(tmp_path, config, "--offline")
    assert status == 1
    assert one(found["problem"], "audit: ", "cannot be written")


def test_f43_a_configuration_that_is_wrong(tmp_path: Path, config: dict[str, Any]) -> None:
    config["issuers"][0]["series"] = []
    status, found = doctor(tmp_path, config)
    assert status == 1
    assert all(t.startswith("configuration: ") for t in found["problem"])


def test_f43_people_read_lines(tmp_path: Path, config: dict[str, Any]) -> None:
    command = shutil.which(str(BIN / "sealwright")) or ""
    arguments = [command, "doctor", "--offline", "--config", write_config(tmp_path, config)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603 - our own command
    *lines, last = done.stdout.splitlines()
    assert last == "0 problems, 0 warnings"
    assert all(line.startswith("OK       ") for line in lines)
