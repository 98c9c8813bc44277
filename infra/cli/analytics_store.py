"""The way in of tenants' analytics: `weir run analytics-store`, `weir tenants`; and `weir migrate`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.links import run

if TYPE_CHECKING:
    from infra.config import Config

tenants = typer.Typer(help="Whose events are taken in: tenants and their plans.", no_args_is_help=True)

Id = Annotated[int, typer.Argument(metavar="ID", min=1, help="The tenant's number.")]
Plan = Annotated[str, typer.Option("--plan", help="The plan that the tenant is on, such as `free`.")]


def register(app: typer.Typer) -> None:
    """Adds `weir migrate` and `weir tenants`, and adds to `weir run`."""
    run.command("analytics-store")(analytics_store)
    app.command("migrate")(migrate)
    tenants.command("add")(add)
    tenants.command("list")(list_)
    tenants.command("set-plan")(set_plan)
    app.add_typer(tenants, name="tenants")


def analytics_store() -> None:
    """Store tenants' events, and what they come to per day, in Postgres."""
    import asyncio

    from consumers.analytics_store import NAME
    from consumers.analytics_store import analytics_store as made
    from infra import config, log
    from infra.cli.links import store
    from infra.signals import until_signal

    settings = config.load(os.environ)
    log.setup(settings, NAME)
    asyncio.run(until_signal(store(made(settings))))


def _settings() -> Config:
    """The configuration of a command, whose log is kept apart from its output."""
    from infra import config, log

    settings = config.load(os.environ)
    log.setup(settings, "weir")
    return settings


def migrate() -> None:
    """Bring Postgres up to date: apply what this weir has and the database has not.

    Says what was applied. Services do the same when they start.
    """
    from infra import postgres

    applied = postgres.migrate(_settings())
    for step in applied:
        print(f"{step.number:04d}_{step.name}")
    if not applied:
        typer.echo("nothing to do: Postgres is up to date", err=True)


def add(id_: Id, plan: Plan, name: Annotated[str, typer.Option("--name", help="What people call it.")] = "") -> None:
    """Add a tenant: from now on its events are stored."""
    from consumers.tenants import Tenant, add_tenants
    from infra import postgres

    settings = _settings()
    postgres.migrate(settings)
    add_tenants(settings, [Tenant(id_, plan, name)])


def set_plan(id_: Id, plan: Annotated[str, typer.Argument(metavar="PLAN", help="The new plan.")]) -> None:
    """Put a tenant on another plan."""
    from consumers import tenants as stored

    stored.set_plan(_settings(), id_, plan)


def list_(
    plan: Annotated[str | None, typer.Option("--plan", help="Only those on this plan.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON array.")] = False,
) -> None:
    """List the tenants by number.

    Where the output is no terminal, each is a line: number, plan and name, separated by tabs.
    """
    import msgspec

    from consumers.tenants import list_tenants

    found = list_tenants(_settings(), plan)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode([tenant._asdict() for tenant in found]), indent=2).decode())
    elif not sys.stdout.isatty():
        for tenant in found:
            print(tenant.id, tenant.plan, tenant.name.translate({9: " ", 10: " ", 13: " "}), sep="\t")
    else:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        view = Table("tenant", "plan", "name", box=None)
        for tenant in found:
            view.add_row(str(tenant.id), tenant.plan, escape(tenant.name))
        Console().print(view)
