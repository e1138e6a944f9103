from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sealwright.errors import ConfigurationError, ProviderNotInstalledError, ProviderUnsupportedError
from sealwright.kms.registry import load_factory
from sealwright_providers.pkcs11 import FACTORY
from sealwright_providers.pkcs11.factory import read_pin
from sealwright_providers.pkcs11.labels import carries, exact_label, is_ours, label_of
from sealwright_providers.pkcs11.settings import Pkcs11Settings
from sealwright_providers.pkcs11.uri import KeyName, KeyUris

GOOD: dict[str, Any] = {"module": "/m.so", "token_label": "jwt", "pin_env": "PIN"}


def test_the_smallest_table_is_enough() -> None:
    settings = Pkcs11Settings(**GOOD)
    assert (settings.kind, settings.sessions) == ("pkcs11", 8)
    assert load_factory("pkcs11") is FACTORY


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"module": "m.so"}, "absolute path"),
        ({"module": ""}, "must be a path"),
        ({"token_label": None}, "either token_label or token_serial"),
        ({"token_serial": "1"}, "either token_label or token_serial"),
        ({"token_label": "x" * 33}, "1 to 32 bytes"),
        ({"token_label": "ü" * 17}, "1 to 32 bytes"),
        ({"token_label": ""}, "1 to 32 bytes"),
        ({"token_label": "jwt "}, "with a space"),
        ({"token_label": "j\nt"}, "printable"),
        ({"token_label": None, "token_serial": "1" * 17}, "1 to 16 ASCII"),
        ({"token_label": None, "token_serial": " 1"}, "1 to 16 ASCII"),
        ({"pin_env": None}, "either pin_file or pin_env"),
        ({"pin_file": "/pin"}, "either pin_file or pin_env"),
        ({"pin_env": None, "pin_file": "pin"}, "absolute path"),
        ({"pin_env": "A-B"}, "name of an environment variable"),
        ({"sessions": 0}, "greater than or equal to 1"),
        ({"sessions": 65}, "less than or equal to 64"),
        ({"initialize_arguments": ""}, "must not be empty"),
        ({"initialize_arguments": "a\0"}, "must not be empty"),
        ({"pin": "1234"}, "Extra inputs"),
    ],
)
def test_a_wrong_setting_is_reported(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Pkcs11Settings(**{**GOOD, **change})


def test_the_pin_is_read_from_a_file_without_its_line_end(tmp_path: Path) -> None:
    file = tmp_path / "pin"
    settings = Pkcs11Settings(**{**GOOD, "pin_env": None, "pin_file": str(file)})
    for content, pin in (
        (b"12 34\n", b"12 34"),
        (b"user:pass\r\n", b"user:pass"),
        (b" 1 ", b" 1 "),
        (b"1\n\n", b"1\n"),
    ):
        file.write_bytes(content)
        assert read_pin(settings) == pin
    for content in (b"", b"\n", b"x" * 5000):
        file.write_bytes(content)
        with pytest.raises(ConfigurationError, match="must hold a PIN"):
            read_pin(settings)
    file.unlink()
    with pytest.raises(ConfigurationError, match=r"cannot be read \(FileNotFoundError\)"):
        read_pin(settings)


def test_the_pin_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Pkcs11Settings(**GOOD)
    monkeypatch.setenv("PIN", "1234")
    assert read_pin(settings) == b"1234"
    monkeypatch.setenv("PIN", "")
    with pytest.raises(ConfigurationError, match="not set"):
        read_pin(settings)


async def test_a_missing_sdk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(
        ProviderNotInstalledError, match=r"kind pkcs11 needs python-pkcs11: install sealwright\[pkcs11\]"
    ):
        await FACTORY.open(Pkcs11Settings(**GOOD))


def test_the_factory_imports_no_sdk() -> None:
    script = "import sys; from sealwright_providers.pkcs11 import FACTORY; sys.exit('pkcs11' in sys.modules)"

    async def run() -> int:
        return await (await asyncio.create_subprocess_exec(sys.executable, "-c", script)).wait()

    assert asyncio.run(run()) == 0


@pytest.mark.parametrize("content", [None, b"no library", b""])
async def test_a_module_that_cannot_be_loaded_is_a_fault_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    monkeypatch.setenv("PIN", "1234")
    module = tmp_path / "m.so"
    if content is not None:
        module.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"cannot be loaded \(OSError\)") as caught:
        await FACTORY.open(Pkcs11Settings(**{**GOOD, "module": str(module)}))
    assert str(tmp_path) not in str(caught.value)


BY_LABEL = KeyUris(Pkcs11Settings(**{**GOOD, "token_label": "jwt; keys"}))
BY_SERIAL = KeyUris(Pkcs11Settings(**{**GOOD, "token_label": None, "token_serial": "AB/1"}))


def test_uris_are_as_rfc_7512_has_them() -> None:
    assert BY_LABEL.format(KeyName(b"\x00aZ\xff")) == "pkcs11:token=jwt%3B%20keys;id=%00%61%5A%FF;type=private"
    assert BY_SERIAL.format(KeyName(b"\x01", secret=True)) == "pkcs11:serial=AB%2F1;id=%01;type=secret-key"
    for uris in (BY_LABEL, BY_SERIAL):
        for name in (KeyName(bytes(range(16))), KeyName(b"\x01", secret=True)):
            assert uris.parse(uris.format(name)) == name


def test_uris_in_other_words_name_the_same_key() -> None:
    assert BY_LABEL.parse("pkcs11:type=private;id=%00a%5a%ff;token=%6awt%3b%20keys") == KeyName(b"\x00aZ\xff")


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "pkcs11:",
        "PKCS11:token=jwt%3B%20keys;id=%01;type=private",
        "awskms:///k",
        "pkcs11:token=other;id=%01;type=private",
        "pkcs11:token=JWT%3B%20keys;id=%01;type=private",
        "pkcs11:id=%01;type=private",
        "pkcs11:serial=AB%2F1;id=%01;type=private",
        "pkcs11:token=jwt%3B%20keys;type=private",
        "pkcs11:token=jwt%3B%20keys;id=;type=private",
        "pkcs11:token=jwt%3B%20keys;id=%01;type=public",
        "pkcs11:token=jwt%3B%20keys;id=%01;type=private;",
        "pkcs11:token=jwt%3B%20keys;id=%01;id=%02;type=private",
        "pkcs11:token=jwt%3B%20keys;id=%01;type=private;object=k",
        "pkcs11:token=jwt%3B%20keys;id=%01;type=private?pin-value=1234",
        "pkcs11:token=jwt%3B%20keys;id=%1;type=private",
        "pkcs11:token=jwt%3B%20keys;id=%GG;type=private",
        "pkcs11:token=jwt%3B keys;id=%01;type=private",
        "pkcs11:token=jwt%3B%20keys;id=%01;type=private\n",
        "pkcs11:token=jwt%3B%20keys;id=ü;type=private",
        "pkcs11:token=jwt%3B%20keys;id=" + "%01" * 256 + ";type=private",
    ],
)
def test_other_uris_are_refused(uri: str) -> None:
    with pytest.raises(ProviderUnsupportedError) as caught:
        BY_LABEL.parse(uri)
    assert "jwt" not in caught.value.message


def test_labels_carry_deployment_and_intent() -> None:
    tags = {"sealwright:deployment": "d:1", "sealwright:intent": "i"}
    label = label_of({**tags, "sealwright:issuer": "payments"})
    assert label == exact_label(tags) == "sealwright:d%3A1:i"
    assert carries(label, tags)
    assert carries(label, {"sealwright:intent": "i"})
    assert carries(label, {})
    assert not carries(label, {"sealwright:intent": "j"})
    assert exact_label({"sealwright:intent": "i"}) is None
    assert not is_ours("my key")
    assert not carries("my key", {})
    with pytest.raises(ProviderUnsupportedError):
        exact_label({"colour": "red"})
