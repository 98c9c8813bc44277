"""`weir tenants` and `weir migrate`."""

from __future__ import annotations

import json

from support.command import weir
from weir.infra.postgres import migrations


def test_adding_a_tenant_to_an_empty_database_prints_nothing(environ: dict[str, str]) -> None:
    added = weir(environ, "tenants", "add", "7", "--plan", "free")
    assert (added.returncode, added.stdout) == (0, b"")
    assert b"postgres.migrated" in added.stderr


def test_tenants_are_added_listed_and_put_on_another_plan(environ: dict[str, str]) -> None:
    first = weir(environ, "migrate")
    # What was applied, and nothing else: the log is apart from it.
    assert first.stdout.decode().splitlines() == [f"{step.number:04d}_{step.name}" for step in migrations()]
    assert b"postgres.migrated" in first.stderr
    again = weir(environ, "migrate")
    assert (again.returncode, again.stdout) == (0, b"")
    assert b"up to date" in again.stderr
    assert (
        weir(environ, "tenants", "add", "7", "--plan", "free", "--name", "Seven'; DROP TABLE tenants; --").returncode
        == 0
    )
    assert weir(environ, "tenants", "add", "8", "--plan", "free").returncode == 0
    twice = weir(environ, "tenants", "add", "7", "--plan", "premium")
    assert twice.returncode == 1
    assert b"tenant 7 already exists" in twice.stderr
    assert weir(environ, "tenants", "set-plan", "7", "premium").returncode == 0
    assert b"unknown tenant 9" in weir(environ, "tenants", "set-plan", "9", "premium").stderr
    assert b"plan 'Gold!'" in weir(environ, "tenants", "add", "9", "--plan", "Gold!").stderr
    listed = json.loads(weir(environ, "tenants", "list", "--json").stdout)
    assert listed == [
        {"id": 7, "plan": "premium", "name": "Seven'; DROP TABLE tenants; --"},
        {"id": 8, "plan": "free", "name": ""},
    ]
    assert weir(environ, "tenants", "list", "--plan", "free").stdout == b"8\tfree\t\n"
