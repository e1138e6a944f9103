"""`sealwright dev --provider`: each kind of provider on a backend that the command starts and ends."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

from sealwright.cli import dev_backends
from sealwright.errors import ConfigurationError
from sealwright.kms.registry import BUILT_IN
from sealwright_testing.softhsm import softhsm_module
from support.document import tool_missing
from support.processes import BIN, process

SCHEMES = {
    "aws": "awskms:///",
    "azure": "azurekms://",
    "gcp": "gcpkms://projects/dev/",
    "pkcs11": "pkcs11:token=sealwright;",
}


def run(*command: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own command
        [str(BIN / "sealwright"), *command], check=False, capture_output=True, text=True, timeout=30, env=more or None
    )


@pytest.mark.parametrize("kind", list(SCHEMES))
@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_the_service_signs_with_keys_of_the_chosen_provider(tmp_path: Path, kind: str, algorithm: str) -> None:
    if kind == "pkcs11" and softhsm_module() is None:
        tool_missing("softhsm2")
    options = ("--provider", kind, "--algorithm", algorithm, "--output", "json")
    with process(tmp_path, "sealwright", "dev", *options) as dev:
        connection = ("--plaintext", "--address", dev.ready["grpc"])
        signed = run("sign", "dev", "--subject", "user-1", "--audience", "a", *connection)
        assert signed.returncode == 0, signed.stderr
        good = run("verify", "dev", signed.stdout.strip(), "--audience", "a", *connection)
        assert good.returncode == 0, good.stderr
        keys = json.loads(run("keys", "list", "dev", "--output", "json", *connection).stdout)
        assert {key["key_uri"].startswith(SCHEMES[kind]) for key in keys} == {True}
        assert {key["algorithm"] for key in keys} == {algorithm}
        dev.popen.terminate()
        assert dev.wait() == 0


def test_a_missing_softhsm_is_named() -> None:
    missing = run("dev", "--provider", "pkcs11", PATH="/nonexistent")
    assert missing.returncode == 1
    assert "softhsm2-util" in missing.stderr
    assert "Traceback" not in missing.stderr


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(dev_backends, "find_spec", lambda name: None if name == "sealwright_testing" else real(name))
    with (
        pytest.raises(ConfigurationError, match="pip install sealwright-testing"),
        dev_backends.running("aws", tmp_path),
    ):
        pass


def test_a_backend_that_ends_at_once_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strange = dev_backends.Backend("a strange KMS", lambda _ready, _directory: {})
    monkeypatch.setattr(dev_backends, "BACKENDS", {"strange": strange})
    with (
        pytest.raises(ConfigurationError, match=r"a strange KMS did not start: No such command 'strange'\."),
        dev_backends.running("strange", tmp_path),
    ):
        pass


def test_an_unknown_provider_is_a_wrong_command_line() -> None:
    refused = run("dev", "--provider", "vault")
    assert refused.returncode == 2
    assert all(kind in refused.stderr for kind in dev_backends.BACKENDS)


def test_every_built_in_kind_has_a_backend() -> None:
    assert set(BUILT_IN) <= set(dev_backends.BACKENDS)
