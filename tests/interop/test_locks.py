"""What verifies is pinned and hashed, as what signs is."""

from __future__ import annotations

import json
import re

from interop.node_support import FOLDER
from interop.python_env import LOCK


def test_the_npm_lock_has_hashes_and_names_no_registry() -> None:
    packages = json.loads((FOLDER / "package-lock.json").read_text())["packages"]
    installed = {name: package for name, package in packages.items() if name}
    assert {n for n, package in installed.items() if not package.get("integrity", "").startswith("sha512-")} == set()
    assert {name for name, package in packages.items() if "resolved" in package} == set()


def test_the_python_lock_has_hashes_names_no_registry_and_all_that_is_asked_for() -> None:
    text = LOCK.read_text()
    pins = re.split(r"^(?=[a-z0-9-]+==)", text, flags=re.MULTILINE)[1:]
    assert [pin for pin in pins if "--hash=sha256:" not in pin] == []
    assert "://" not in text
    asked = re.findall(r"^[a-z0-9-]+", LOCK.with_suffix(".in").read_text(), flags=re.MULTILINE)
    assert set(asked) <= {pin.partition("==")[0] for pin in pins}
