"""`weir ledger`: what became of every event that a job has accepted."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from weir.cli._groups import LOOK
from weir.cli._shared import Listing, job_names


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command("ledger", rich_help_panel=LOOK)(ledger)


def ledger(
    job: Annotated[str, typer.Argument(help="The job.", autocompletion=job_names)] = "links",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show the outcome of every event: accepted = counted + late + dead, and how many are not processed yet.

    `merged` is how many of the counted events are in the cells written so far. --json also has how much of each topic
    that the job reads is not processed yet (`behind`): offsets of its source, events in a topic between its stages. An
    idle job has 0 everywhere. A job with a capacity shows how many keys it has dropped to stay within it.
    """
    import msgspec

    from weir.infra.config import load
    from weir.infra.kafka.client import reach
    from weir.infra.runtime.patience import waiting_for
    from weir.streams.engine.progress.ledger_reader import LedgerReader
    from weir.streams.jobs import registry as jobs

    config = load(os.environ)
    made = jobs.make(job, config)
    reach(config)
    with waiting_for(f"Kafka at {config.kafka.bootstrap}"):
        found = LedgerReader(config, made).read()
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    listing = Listing("", "events", right=["events"], title=f"ledger of {job}", show_header=False)
    for name in ("accepted", "counted", "late", "dead", "merged"):
        listing.add(name, f"{getattr(found, name):,}")
    if found.dropped is not None:
        listing.add("keys dropped", f"{found.dropped:,}")
    listing.add("not processed yet", f"{found.behind[made.source.name]:,}")
    listing.show()
