"""Each distribution, built from this tree and installed alone, as its users install it."""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import select
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.document import CREDENTIALS, tool_missing

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "requirements"
SERVICE, TESTING = "sealwright", "sealwright-testing"

PRIVATE = re.compile(
    r"generate_private_key|derive_private_key|from_private_bytes|from_seed_bytes|private_bytes(_raw)?|private_numbers"
    r"|load_(pem|der|ssh)_private_key|load_pkcs12|load_key_and_certificates|\w+Private(Key|Numbers)"
)
"""Names by which the library cryptography creates, loads or exports private keys."""

UNREACHABLE = re.compile(r"Retrying|Could not fetch URL|Failed to establish|Temporary failure|timed out|ProxyError")
"""What pip says when it cannot reach an index."""

CONFIG = """
[server]
grpc = "127.0.0.1:0"
http = "127.0.0.1:0"
admin = "127.0.0.1:0"
insecure_local = true
[store]
url = "sqlite:///{directory}/state.db"
[audit]
path = "{directory}/audit"
[providers.one]
{provider}
[[issuers]]
name = "payments"
url = "https://id.example.com/payments"
[[issuers.series]]
name = "es256"
algorithm = "ES256"
provider = "one"
[[grants]]
caller = "local"
roles = ["auditor"]
issuers = ["payments"]
"""

PROVIDERS = {
    "aws": 'kind = "aws"\nregion = "eu-west-1"\nendpoint_url = "http://127.0.0.1:9"',
    "azure": 'kind = "azure"\nvault_url = "https://v.vault.localhost:9"\ncredential = "cli"',
    "gcp": 'kind = "gcp"\nproject = "project"\nlocation = "eu"\nkey_ring = "k"\nendpoint = "127.0.0.1:9"\ninsecure_endpoint = true',
    "pkcs11": 'kind = "pkcs11"\nmodule = "/nonexistent.so"\ntoken_label = "one"\npin_env = "PIN"',
}
SDKS = {"aws": "botocore", "azure": "azure.identity", "gcp": "google.cloud.kms_v1", "pkcs11": "pkcs11"}


PLUG_IN = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "sealwright-vault"
version = "1"
[project.entry-points."sealwright.providers"]
vault = "sealwright_vault:FACTORY"
[tool.hatch.build.targets.wheel]
include = ["sealwright_vault.py"]
"""


@dataclass(frozen=True)
class Environment:
    """A virtual environment that holds wheels of ours and what they need, and nothing else."""

    folder: Path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, in a directory from which none of our code can be imported."""
        return subprocess.run(  # noqa: S603 - our own programs
            [str(self.folder / "bin" / command[0]), *command[1:]],
            cwd=self.folder,
            env=_environ(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @contextmanager
    def ready(self, *command: str) -> Iterator[dict[str, str]]:
        """Run a program until the end of the block, and give the line of JSON that it prints when it is ready."""
        process = subprocess.Popen(  # noqa: S603 - our own programs
            [str(self.folder / "bin" / command[0]), *command[1:]],
            cwd=self.folder,
            env=_environ() | CREDENTIALS,
            stdout=subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], 30)[0], "no line in time"
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()
            process.communicate(timeout=30)

    @property
    def packages(self) -> Path:
        """The directory in which packages are installed."""
        return next((self.folder / "lib").glob("python3*/site-packages"))


def _environ() -> dict[str, str]:
    # Coverage starts itself in subprocesses, by a file that these environments do not have.
    return {k: v for k, v in os.environ.items() if not k.startswith(("COVERAGE", "PYTHON"))}


def build(what: str, folder: Path) -> Path:
    """Build the sdist of a distribution, and from the unpacked sdist alone its wheel; return the wheel."""
    source = ROOT if what == SERVICE else ROOT / "testing"
    _hatchling("sdist", source, folder)
    archive = next(folder.glob(f"{what.replace('-', '_')}-[0-9]*.tar.gz"))
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    _hatchling("wheel", folder / archive.name.removesuffix(".tar.gz"), folder)
    return next(folder.glob(f"{what.replace('-', '_')}-[0-9]*.whl"))


def _hatchling(target: str, source: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr


def environment(folder: Path, lock: str, *wheels: Path) -> Environment:
    """Create a virtual environment of exactly a lock file and some wheels of ours."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)  # noqa: S603
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    install = [*pip, "install", "--quiet", "--no-input", "--no-compile"]
    hashed = ["--only-binary", ":all:", "--retries", "1", "--require-hashes", "--requirement", str(LOCKS / lock)]
    for command in (
        [*install, *hashed],
        [*install, "--no-deps", "--no-index", *map(str, wheels)],
        [*pip, "check"],  # the lock has all that the wheels need
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)  # noqa: S603
        if done.returncode and UNREACHABLE.search(done.stderr):
            tool_missing("a package index that pip can reach")
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    return Environment(folder)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {what: build(what, tmp_path_factory.mktemp(what)) for what in (SERVICE, TESTING)}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, wheels: dict[str, Path]) -> Environment:
    """The service without any extra: no SDK of a KMS, and nothing of the tests."""
    return environment(tmp_path_factory.mktemp("service"), "core.lock", wheels[SERVICE])


@pytest.fixture(scope="module")
def testing(tmp_path_factory: pytest.TempPathFactory, wheels: dict[str, Path]) -> Environment:
    return environment(tmp_path_factory.mktemp("testing"), "testing.lock", wheels[SERVICE], wheels[TESTING])


def test_both_distributions_have_one_version_and_one_licence() -> None:
    ours = [tomllib.loads((ROOT / f / "pyproject.toml").read_text())["project"] for f in (".", "testing")]
    assert {p["version"] for p in ours} == {ours[0]["version"]}
    assert f"sealwright[aws]=={ours[0]['version']}" in ours[1]["dependencies"]
    assert (ROOT / "LICENSE").read_bytes() == (ROOT / "testing" / "LICENSE").read_bytes()


def test_every_lock_pins_the_same_versions() -> None:
    pins = [_pins(LOCKS / f"{name}.lock") for name in ("core", "service", "testing", "build", "postgres", *PROVIDERS)]
    assert [sorted(p - _pins(LOCKS / "dev.lock")) for p in pins] == [[] for _ in pins]
    assert pins[0] < pins[1]
    assert not any(name in pin for pin in pins[0] for name in ("boto", "pkcs11", "psycopg", "pytest", "joserfc"))


def _pins(lock: Path) -> set[str]:
    return set(re.findall(r"^[a-z0-9.-]+==[^ ;\\]+", lock.read_text(), flags=re.MULTILINE))


def test_f42_the_service_installs_no_emulator(service: Environment) -> None:
    find = "import importlib.util, sys; sys.exit(importlib.util.find_spec('sealwright_testing') is not None)"
    assert service.run("python", "-c", find).returncode == 0
    record = next(service.packages.glob("sealwright-*.dist-info"))
    files = [line.partition(",")[0] for line in (record / "RECORD").read_text().splitlines()]
    assert {f.partition("/")[0] for f in files} <= {"sealwright", "sealwright_providers", record.name, ".."}
    scripts = configparser.ConfigParser()
    scripts.read(record / "entry_points.txt")
    assert list(scripts["console_scripts"]) == ["sealwright"]
    assert not (service.folder / "bin" / "sealwright-emulator").exists()


def test_f42_nothing_that_the_service_installs_creates_or_loads_private_keys(service: Environment) -> None:
    modules = [p for top in (SERVICE, "sealwright_providers") for p in (service.packages / top).rglob("*.py")]
    assert len(modules) > 50
    assert {(p.name, n) for p in modules for n in _names(p.read_text()) if PRIVATE.fullmatch(n)} == set()


def test_f42_the_check_sees_what_the_emulator_does(testing: Environment) -> None:
    used = {n for p in (testing.packages / "sealwright_testing").rglob("*.py") for n in _names(p.read_text())}
    assert {n for n in used if PRIVATE.fullmatch(n)} >= {"generate_private_key", "Ed25519PrivateKey"}


def _names(source: str) -> Iterator[str]:
    """Yield the names that a module uses, and not the words of its comments and docstrings."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                yield name
            case ast.alias(name=name):
                yield name.rpartition(".")[2]


def test_the_service_alone_shows_its_help(service: Environment) -> None:
    shown = service.run("sealwright", "--help")
    assert shown.returncode == 0, shown.stderr
    assert all(command in shown.stdout for command in ("serve", "sign", "keys", "config"))


@pytest.mark.parametrize("kind", PROVIDERS)
def test_without_its_sdk_a_provider_names_the_extra_to_install(service: Environment, tmp_path: Path, kind: str) -> None:
    config = tmp_path / "sealwright.toml"
    config.write_text(CONFIG.format(directory=tmp_path, provider=PROVIDERS[kind]))
    extra = f"sealwright[{kind}]"
    checked = service.run("sealwright", "config", "check", str(config))
    assert checked.returncode == 0 or extra in checked.stdout + checked.stderr, checked.stderr
    assert "Traceback" not in checked.stderr
    served = service.run("sealwright", "serve", "--config", str(config))
    assert served.returncode == 1
    assert extra in served.stderr
    assert "Traceback" not in served.stderr


@pytest.mark.parametrize("kind", PROVIDERS)
def test_an_extra_alone_brings_its_provider_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, wheels: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    alone = environment(tmp_path_factory.mktemp(kind), f"{kind}.lock", wheels[SERVICE])
    find = "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n.split('.')[0]) and u.find_spec(n)])"
    found = alone.run("python", "-c", find, *SDKS.values())
    assert found.stdout.strip() == str([SDKS[kind]]), found.stderr
    loads = (
        f"import sealwright_providers.{kind} as p, sys; assert {SDKS[kind]!r} not in sys.modules; print(p.FACTORY.kind)"
    )
    assert alone.run("python", "-c", loads).stdout.strip() == kind
    config = tmp_path / "sealwright.toml"
    config.write_text(CONFIG.format(directory=tmp_path, provider=PROVIDERS[kind]))
    assert alone.run("sealwright", "config", "check", "--offline", str(config)).returncode == 0
    opens = (
        "import asyncio, sys; from pathlib import Path; from sealwright.config import load;"
        "from sealwright.kms.registry import load_factory;"
        "s = load(Path(sys.argv[1])).providers['one'];"
        "asyncio.run(load_factory(s.kind).open(s))"
    )
    opened = alone.run("python", "-c", opens, str(config))
    assert "ProviderNotInstalledError" not in opened.stderr, opened.stderr
    assert kind == "pkcs11" or opened.returncode == 0, opened.stderr


def test_the_emulator_runs_from_its_own_distribution(testing: Environment) -> None:
    with testing.ready("sealwright-emulator", "aws", "--port", "0") as line:
        assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+", line["endpoint"])


def test_the_service_runs_on_the_emulator_when_both_are_installed(testing: Environment) -> None:
    with testing.ready("sealwright", "dev", "--output", "json") as line:
        signed = testing.run("sealwright", "sign", "dev", "--plaintext", "--address", line["grpc"])
        assert signed.returncode == 0, signed.stderr
        assert signed.stdout.strip().count(".") == 2


def test_a_plug_in_is_found_beside_the_installed_service(
    service: Environment, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = tmp_path_factory.mktemp("plug-in")
    (source / "pyproject.toml").write_text(PLUG_IN)
    shutil.copy(ROOT / "tests" / "contract" / "plugin.py", source / "sealwright_vault.py")
    _hatchling("wheel", source, source)
    wheel = next(source.glob("*.whl"))
    command = [sys.executable, "-m", "pip", "--python", str(service.folder / "bin" / "python"), "install", "--no-index"]
    subprocess.run([*command, "--no-deps", "--quiet", str(wheel)], check=True, timeout=60)  # noqa: S603
    config = tmp_path / "sealwright.toml"
    text = CONFIG.format(directory=tmp_path, provider='kind = "vault"\ntenant = "t"\nlease = "5m"')
    config.write_text(text)
    refused = service.run("sealwright", "config", "check", str(config))
    assert (refused.returncode, "plugins" in refused.stderr) == (1, True), refused.stderr
    config.write_text('plugins = ["vault"]\n' + text)
    checked = service.run("sealwright", "config", "check", str(config))
    assert checked.returncode == 0, checked.stderr
