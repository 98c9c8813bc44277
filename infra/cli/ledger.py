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
    """Show what became of every event: accepted = counted + late + dead, and what is not processed yet.

    `merged` is how many of those counted are in the cells that have been written. --json also says how far each of the
    job's topics reaches beyond what is committed (`behind`); in a topic of the engine's own, part of that is
    transaction markers, which stay. A job with a capacity says how many keys it has dropped for want of room.
    """
    import msgspec
    from rich.console import Console
    from rich.table import Table

    from infra.config import load
    from streams import jobs
    from streams.engine.books import Books

    config = load(os.environ)
    made = jobs.make(job, config)
    found = Books(config, made).read()
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    view = Table(title=f"ledger of {job}", title_justify="left", show_header=False, box=None)
    view.add_column()
    view.add_column(justify="right")
    for name in ("accepted", "counted", "late", "dead", "merged"):
        view.add_row(name, f"{getattr(found, name):,}")
    if found.dropped is not None:
        view.add_row("keys dropped", f"{found.dropped:,}")
    view.add_row("not processed yet", f"{found.behind[made.source.name]:,}")
    Console().print(view)
