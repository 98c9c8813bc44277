"""`weir reset JOB`: a job's state, offsets and output dropped, so that it recounts from the beginning."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from consumers.tables import Table
    from infra.config import Config
    from streams.engine.job import Job
    from streams.engine.reset import Reset


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command("reset")(reset)


def reset(
    job: Annotated[str, typer.Argument(help="The job, as `weir worker` names it.")],
    yes: Annotated[int, typer.Option("--yes", count=True, help="Given twice: do not ask, twice.")] = 0,
    keep_tables: Annotated[
        bool, typer.Option("--keep-tables", help="Leave Postgres alone: rows of results that are gone stay there.")
    ] = False,
) -> None:
    """Drop a job's state, offsets and output: its next worker recounts everything from the beginning.

    Asked for twice, and refused while a worker runs. Its source is not touched, and dead letters and late events stay.
    What is interrupted is completed by running it again; until then no worker of the job starts. A job that reads what
    this one writes would count it again, so that one is to be reset first.
    """
    from consumers.readers import STORES
    from consumers.sink_reset import affected
    from infra.config import load
    from infra.kafka import ensure_topics
    from infra.postgres import migrate
    from schemas.errors import WeirError
    from streams import jobs
    from streams.engine.reset import Reset

    config = load(os.environ)
    made = jobs.make(job, config)
    if yes == 1:
        raise WeirError("--yes once is not enough: `--yes --yes` resets without asking")
    ensure_topics(config)
    steps = Reset(config, made)
    _refuse_while_it_runs(steps, job)
    _refuse_where_it_would_count_twice(config, made)
    stores = {} if keep_tables else affected(STORES, made.writes)
    if stores:
        try:
            migrate(config)
        except WeirError as e:
            raise WeirError(f"{e}; its tables are to be emptied, too, unless you say --keep-tables") from e
    _announce(steps, made, [table for tables in stores.values() for table in tables])
    if not yes:
        typer.confirm(f"Reset {job}?", abort=True)
        if typer.prompt(f"Type {job} to delete all of this") != job:
            raise typer.Abort
    _run(config, steps, made, stores)
    typer.echo(f"{job} is reset: `weir worker {job}` recounts from the beginning.")


def _refuse_while_it_runs(steps: Reset, job: str) -> None:
    from schemas.errors import WeirError

    if members := steps.members():
        who = ", ".join(f"{member.address or member.client} (from {member.host})" for member in members)
        raise WeirError(f"{job} has workers, which have to be stopped first: {who}; one that was killed counts for 6 s")


def _refuse_where_it_would_count_twice(config: Config, made: Job) -> None:
    """What a job writes anew is new to one that has read it, and to one that is just reading it."""
    from schemas.errors import WeirError
    from streams import jobs
    from streams.engine.offsets import Group
    from streams.engine.reset import Reset

    for other in (jobs.make(name, config) for name in jobs.JOBS):
        if other.source.name not in {topic.name for topic in made.writes}:
            continue
        group = Group(config, other.name)
        if group.committed(other.source.name, group.partitions(other.source.name)) or Reset(config, other).members():
            raise WeirError(
                f"{other.name} reads {other.source.name}, which {made.name} would write anew, and would count it all "
                f"again: stop its workers, `weir reset {other.name}`, and then this"
            )


def _announce(steps: Reset, made: Job, tables: Sequence[Table]) -> None:
    typer.echo(f"What will be deleted of {made.name}:")
    typer.echo("  where it is in its source: the offsets of its group")
    for topic in made.writes:
        typer.echo(f"  all of topic {topic.name} ({steps.records(topic):,} offsets)")
    for table in tables:
        typer.echo(f"  all rows of table {table.name} in Postgres, and how far its sink was")
    if steps.state.exists():
        typer.echo(f"  the folder {steps.state}")
    typer.echo("Earlier dead letters and late events stay; those events will be refused again, and be there twice.")


def _run(config: Config, steps: Reset, made: Job, stores: dict[str, list[Table]]) -> None:
    """In this order: what is there when it is interrupted keeps workers from starting, and can be reset again."""
    from consumers import sink_reset

    steps.fence()
    steps.mark()
    for topic in made.writes:
        steps.delete_records(topic)
    steps.delete_state()
    if stores:
        sink_reset.empty(config, stores)
    steps.delete_group()
