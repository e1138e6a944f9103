"""I12: which URLs of a PostgreSQL store are accepted, and what becomes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import ValidationError

from sealwright.sql.postgres_url import parameters
from sealwright.sql.settings import StoreSettings

CA = "sslrootcert=/etc/ca.pem"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://sealwright@/keys?host=/run/postgresql",
        "postgresql://sealwright@localhost/keys",
        "postgresql://[::1]:6432/keys",
        f"postgresql://sealwright@db.example.com/keys?{CA}",
        f"postgresql://sealwright@a.example.com:5432,b.example.com:6432/keys?{CA}",
        f"postgresql://sealwright@/keys?host=a.example.com,b.example.com&port=5432,6432&{CA}",
        "postgresql://name%40example.com@/a%20b?service=production&passfile=/run/secrets/pgpass",
    ],
)
def test_i12_a_url_means_what_it_means_to_libpq(url: str) -> None:
    theirs = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    ours = parameters(StoreSettings(url=url).url)
    assert {**ours, "sslmode": "", "port": ""} == {**theirs, "sslmode": "", "port": ""}
    assert theirs.get("port", "5432").split(",")[-1] == ours.get("port", "5432").split(",")[-1]


@pytest.mark.parametrize(
    ("url", "mode"),
    [
        ("postgresql://127.0.0.1/keys", None),
        ("postgresql:///keys?host=/run/postgresql", None),
        ("postgresql://127.0.0.1/keys?sslmode=require", "require"),
        (f"postgresql://db/keys?{CA}", "verify-full"),
        (f"postgresql://10.0.0.1/keys?{CA}&sslmode=verify-full", "verify-full"),
        (f"postgresql://localhost,db/keys?{CA}", "verify-full"),
        ("postgresql://db/keys?sslrootcert=system", "verify-full"),
        ("postgresql:///keys?service=production", "verify-full"),
    ],
)
def test_i12_what_leaves_the_machine_is_encrypted_and_verified(url: str, mode: str | None) -> None:
    assert parameters(url).get("sslmode") == mode


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgresql://u:hunter2@localhost/keys", "must not contain a password"),
        ("postgresql://u:@localhost/keys", "must not contain a password"),
        ("postgresql://u@localhost/keys?password=hunter2", "must not contain a password"),
        ("postgresql://u@localhost/keys?sslpassword=hunter2", "must not contain a password"),
        ("postgresql://u@db/keys", "must say which authority"),
        *[
            (f"postgresql://db/k?{CA}&sslmode={m}", "must not have another sslmode")
            for m in ("require", "verify-ca", "no")
        ],
        (f"postgresql://localhost,db/k?{CA}&sslmode=prefer", "must not have another sslmode"),
        (f"postgresql://127.0.0.1.example.com/k?{CA}&sslmode=prefer", "must not have another sslmode"),
        ("postgresql://u@/keys", "must name a host"),
        ("postgresql://", "must name a host"),
        ("postgresql://a/k?host=b", "must name the hosts once"),
        ("postgresql://localhost/k?options=-csearch_path%3Da", "must only have the parameters"),
        ("postgresql://localhost/k?target_session_attrs=any", "must only have the parameters"),
        ("postgresql://localhost/k?sslmode=verify-full&sslmode=disable", "must have the parameter sslmode once"),
        ("postgresql://localhost/k?passfile=", "must have the parameter passfile once"),
        *[(f"postgresql://{h}/k", "must have hosts") for h in ("h:port", "h:0", "h:65536", "h:1:2", "[::1", "a,,b")],
        ("postgresql://localhost/k#fragment", "must have the form"),
        ("postgresql://localhost/a/b", "must have the form"),
        ("postgresql://local\x00host/a", "must have the form"),
        ("postgresql+psycopg://localhost/k", "must begin with"),
        ("postgres://localhost/k", "must begin with"),
    ],
)
def test_i12_other_urls_are_refused_without_being_repeated(url: str, problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        StoreSettings(url=url)
    assert problem in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_i12_files_that_the_url_names_are_looked_for(tmp_path: Path) -> None:
    there = tmp_path / "pgpass"
    there.touch()
    store = StoreSettings(url=f"postgresql://localhost/k?passfile={there}&sslrootcert={tmp_path}/none.pem")
    (problem,) = store.dialect.missing_here(store.url)
    assert problem == f"sslrootcert: {tmp_path}/none.pem: does not exist, or this user may not read it"
    assert not list(store.dialect.missing_here("postgresql://localhost/k?sslrootcert=system"))
