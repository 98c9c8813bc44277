"""`weir ledger`: what became of every event that a job has accepted."""

from __future__ import annotations

import os
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command("ledger")(ledger)


def ledger(
    job: Annotated[str, typer.Argument(help="The job.")] = "links",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show what became of every event: accepted = counted + late + dead, and what lies ahead."""
    import msgspec
    from rich.console import Console
    from rich.table import Table

    from infra.config import load
    from streams import jobs
    from streams.engine.books import Books

    config = load(os.environ)
    found = Books(config, jobs.make(job, config)).read()
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    view = Table(title=f"ledger of {job}", title_justify="left", show_header=False, box=None)
    view.add_column()
    view.add_column(justify="right")
    for name in ("accepted", "counted", "late", "dead", "merged"):
        view.add_row(name, f"{getattr(found, name):,}")
    for topic, records in found.behind.items():
        view.add_row(f"offsets ahead in {topic}", f"{records:,}")
    Console().print(view)
