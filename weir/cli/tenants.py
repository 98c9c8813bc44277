"""`weir tenants`: whose events are stored."""

from __future__ import annotations

from typing import Annotated

import typer

from weir.cli._groups import STORES, CommandGroup
from weir.cli._shared import configured, print_json, show_rows

tenants = typer.Typer(
    cls=CommandGroup, help="Manage the tenants whose events are stored, and their plans.", no_args_is_help=True
)

Id = Annotated[int, typer.Argument(metavar="ID", min=1, help="The tenant's number.")]
Plan = Annotated[str, typer.Option("--plan", help="The plan that the tenant is on, such as `free`.")]


def register(app: typer.Typer) -> None:
    """Adds `weir tenants`."""
    tenants.command("add")(add)
    tenants.command("list")(list_)
    tenants.command("set-plan")(set_plan)
    app.add_typer(tenants, name="tenants", rich_help_panel=STORES)


def add(id_: Id, plan: Plan, name: Annotated[str, typer.Option("--name", help="A display name.")] = "") -> None:
    """Add a tenant: from now on its events are stored."""
    from weir.consumers.analytics.tenants import Tenant, add_tenants
    from weir.infra import postgres

    settings = configured("weir")
    postgres.migrate(settings)
    add_tenants(settings, [Tenant(id_, plan, name)])


def set_plan(id_: Id, plan: Annotated[str, typer.Argument(metavar="PLAN", help="The new plan.")]) -> None:
    """Put a tenant on another plan."""
    from weir.consumers.analytics import tenants as stored

    stored.set_plan(configured("weir"), id_, plan)


def list_(
    plan: Annotated[str | None, typer.Option("--plan", help="Only those on this plan.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON array.")] = False,
) -> None:
    """List the tenants by number.

    Unless the output is a terminal, each tenant is a line: number, plan and name, separated by tabs.
    """
    from weir.consumers.analytics.tenants import list_tenants

    found = list_tenants(configured("weir"), plan)
    if as_json:
        print_json([tenant._asdict() for tenant in found])
    else:
        show_rows(("tenant", "plan", "name"), found)
