"""What the pages say of grants is what grants cover."""

from __future__ import annotations

from pathlib import Path

from sealwright.access.settings import GrantSettings

ROOT = Path(__file__).parents[2]
COVERED = {
    "roles": "roles",
    "issuers": "issuers",
    "subjects": "subjects",
    "audiences": "audiences",
    "token_types": "token types",
}


def test_f62_the_pages_say_what_grants_cover_and_what_they_do_not() -> None:
    assert set(GrantSettings.model_fields) == {"caller", *COVERED}, "correct README.md and SECURITY.md"
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"Grants restrict {', '.join(list(COVERED.values())[:-1])} and {COVERED['token_types']}." in readme
    for page in ("README.md", "SECURITY.md"):
        text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
        assert "not restrict other claims" in text, page
