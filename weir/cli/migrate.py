"""`weir migrate`: Postgres brought up to date."""

from __future__ import annotations

import typer

from weir.cli._groups import STORES
from weir.cli._shared import configured


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command("migrate", rich_help_panel=STORES)(migrate)


def migrate() -> None:
    """Bring Postgres up to date: apply what this weir has and the database has not.

    Says what was applied. Services do the same when they start.
    """
    from weir.infra.postgres import migrate as apply

    applied = apply(configured("weir"))
    for step in applied:
        print(f"{step.number:04d}_{step.name}")
    if not applied:
        typer.echo("nothing to do: Postgres is up to date", err=True)
