"""The password of the embedded Postgres: its file, what the server keeps of it, its rules, and psql's variables."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

import pytest

from weir.infra.config import load
from weir.infra.postgres import environment
from weir.infra.servers.postgres_login import password_of, rules, scram_verifier


def test_the_verifier_answers_the_exchange_that_rfc_7677_prints() -> None:
    scheme, rounds_salt, keys = scram_verifier("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")).split("$")
    assert (scheme, rounds_salt) == ("SCRAM-SHA-256", "4096:W22ZaJ0SNY7soEsUEjb6gQ==")
    stored, server = map(base64.b64decode, keys.split(":"))
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    exchange = f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={nonce}".encode()
    proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    signature = hmac.digest(stored, exchange, "sha256")
    assert hashlib.sha256(bytes(a ^ b for a, b in zip(proof, signature, strict=True))).digest() == stored
    answer = base64.b64encode(hmac.digest(server, exchange, "sha256")).decode()
    assert answer == "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_a_password_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    file = tmp_path / "pgpass"
    password = password_of(file)
    assert len(password) == 43
    file.chmod(0o644)
    assert password_of(file) == password
    assert file.stat().st_mode & 0o777 == 0o600
    assert password_of(tmp_path / "another") != password


@pytest.mark.parametrize("content", ["", "\n", "garbage", "127.0.0.1:*:*:weir:\nlocalhost:*:*:weir:\n", "ü:\0"])
def test_a_password_file_that_holds_none_is_replaced(tmp_path: Path, content: str) -> None:
    file = tmp_path / "pgpass"
    file.write_text(content)
    password = password_of(file)
    assert len(password) == 43
    assert file.read_text() == f"127.0.0.1:*:*:weir:{password}\nlocalhost:*:*:weir:{password}\n"


def test_the_rules_admit_nobody_without_a_password_and_are_others_for_another_password() -> None:
    admitted = [line.split() for line in rules("p").splitlines() if not line.startswith("#")]
    assert admitted == [["host", "all", "all", "127.0.0.1/32", "scram-sha-256"]]
    assert rules("p") != rules("q")


def test_psql_is_pointed_at_the_configured_postgres_whatever_it_was_pointed_at_before(tmp_path: Path) -> None:
    before = {"PATH": "/bin", "PGHOST": "h", "PGHOSTADDR": "10.0.0.1", "PGSERVICE": "s", "PGPASSWORD": "p"}
    embedded = load({"WEIR_HOME": str(tmp_path), "WEIR_POSTGRES_PORT": "6000"})
    assert environment(embedded, before) == {
        "PATH": "/bin", "PGHOST": "127.0.0.1", "PGPORT": "6000", "PGUSER": "weir", "PGDATABASE": "weir",
        "PGPASSFILE": str(tmp_path / "pgpass"), "PGREQUIREAUTH": "scram-sha-256",
    }  # fmt: skip
    elsewhere = load({"WEIR_POSTGRES": "postgresql://me@db/d?options=-csearch_path%3Dx&keepalives=1"})
    assert environment(elsewhere, before) == {
        "PATH": "/bin", "PGHOST": "db", "PGUSER": "me", "PGDATABASE": "d", "PGOPTIONS": "-csearch_path=x",
        "PGPASSWORD": "p",
    }  # fmt: skip
