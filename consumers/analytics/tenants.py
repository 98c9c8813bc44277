"""Tenants and their plans: table tenants, as the command line sees to it."""

from __future__ import annotations

import re
from typing import NamedTuple

import psycopg

from weir.infra import postgres
from weir.infra.config import Config
from weir.infra.errors import WeirError
from weir.schemas.tenants import MAX_TENANT

_PLAN = re.compile(r"[a-z][a-z0-9_-]{0,62}", re.ASCII)
_MAX_NAME = 200


class Tenant(NamedTuple):
    """One tenant."""

    id: int
    plan: str
    name: str


def check_tenant(tenant: Tenant) -> None:
    """Raises WeirError, which names what is wrong, for a tenant that the table does not take."""
    if not 1 <= tenant.id <= MAX_TENANT:
        raise WeirError(f"tenant {tenant.id}: its number must be from 1 to {MAX_TENANT}")
    if not _PLAN.fullmatch(tenant.plan):
        raise WeirError(
            f"plan {tenant.plan!r}: must be 1 to 63 lower-case letters, digits, _ and -, starting with a letter"
        )
    if len(tenant.name) > _MAX_NAME or "\0" in tenant.name:
        raise WeirError(f"name: at most {_MAX_NAME} characters are allowed, and no NUL")


def add_tenants(config: Config, tenants: list[Tenant]) -> None:
    """Adds them, all or none. Raises WeirError where one is there already, PostgresUnavailableError."""
    for tenant in tenants:
        check_tenant(tenant)
    with _connected(config) as connection, postgres.translated(), connection.transaction():
        added = connection.execute(
            "INSERT INTO tenants (id, plan, name) SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[])"
            " ON CONFLICT (id) DO NOTHING RETURNING id",
            [[tenant.id for tenant in tenants], [t.plan for t in tenants], [t.name for t in tenants]],
        ).fetchall()
        there = {tenant.id for tenant in tenants} - {number for (number,) in added}
        if there:
            raise WeirError(f"tenant {min(there)} already exists; `weir tenants set-plan` changes its plan")


def set_plan(config: Config, number: int, plan: str) -> None:
    """Gives a tenant another plan. Raises WeirError where there is no such tenant, PostgresUnavailableError."""
    check_tenant(Tenant(number, plan, ""))
    with _connected(config) as connection, postgres.translated():
        changed = connection.execute("UPDATE tenants SET plan = %s WHERE id = %s", [plan, number])
        if changed.rowcount == 0:
            raise WeirError(f"unknown tenant {number}; `weir tenants add` adds one")


def list_tenants(config: Config, plan: str | None = None) -> list[Tenant]:
    """The tenants by number; with `plan` those on it. Raises PostgresUnavailableError."""
    with _connected(config) as connection, postgres.translated():
        rows = connection.execute(
            "SELECT id, plan, name FROM tenants WHERE plan = coalesce(%s, plan) ORDER BY id", [plan]
        ).fetchall()
    return [Tenant(*row) for row in rows]


def _connected(config: Config) -> psycopg.Connection:
    return postgres.connect(config, "weir-tenants", {"lock_timeout": "5s"})
