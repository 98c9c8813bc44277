"""`weir reset JOB`: a job's state, offsets and output dropped, so that it recounts from the beginning."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from weir.cli._groups import MAINTAIN
from weir.cli._shared import job_names

if TYPE_CHECKING:
    from weir.consumers.sinks.table import Table
    from weir.infra.config import Config
    from weir.streams.engine.admin.reset import Reset
    from weir.streams.engine.core.job import Job


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command("reset", rich_help_panel=MAINTAIN)(reset)


def reset(
    job: Annotated[str, typer.Argument(help="The job, as `weir worker` names it.", autocompletion=job_names)],
    yes: Annotated[int, typer.Option("--yes", count=True, help="Give it twice to skip both confirmations.")] = 0,
    keep_tables: Annotated[
        bool,
        typer.Option("--keep-tables", help="Keep the rows in Postgres, also those of results that no longer exist."),
    ] = False,
) -> None:
    """Drop a job's state, offsets and output: its next worker recounts everything from the beginning.

    Asks twice, and refuses while a worker runs. The job's source, dead letters and late events stay. Run the command
    again to complete an interrupted reset; until then no worker of the job starts. A job that reads this job's output
    would count it twice, so reset that job first.
    """
    from weir.consumers import registry as consumers
    from weir.consumers.sinks.reset import affected
    from weir.infra.config import load
    from weir.infra.kafka.client import ensure_topics
    from weir.infra.postgres import migrate
    from weir.schemas.errors import WeirError
    from weir.streams.engine.admin.reset import Reset
    from weir.streams.jobs import registry as jobs

    config = load(os.environ)
    made = jobs.make(job, config)
    if yes == 1:
        raise WeirError("one --yes is not enough: `--yes --yes` resets without asking")
    ensure_topics(config)
    steps = Reset(config, made)
    _refuse_while_it_runs(steps, job)
    _refuse_where_it_would_count_twice(config, made)
    stores = {} if keep_tables else affected(consumers.tables(config), made.writes)
    if stores:
        try:
            migrate(config)
        except WeirError as e:
            raise WeirError(
                f"{e}; the reset empties the job's tables as well: make Postgres available, or add --keep-tables"
            ) from e
    _announce(steps, made, [table for tables in stores.values() for table in tables])
    if not yes:
        typer.confirm(f"Reset {job}?", abort=True)
        if typer.prompt(f"Type {job} to delete all of this") != job:
            raise typer.Abort
    _run(config, steps, made, stores)
    typer.echo(f"{job} is reset: `weir worker {job}` recounts from the beginning.")


def _refuse_while_it_runs(steps: Reset, job: str) -> None:
    from weir.schemas.errors import WeirError

    if members := steps.members():
        who = ", ".join(f"{member.address or member.client} (from {member.host})" for member in members)
        raise WeirError(
            f"{job} has running workers: {who}; stop them first (a killed worker counts as running for 6 s)"
        )


def _refuse_where_it_would_count_twice(config: Config, made: Job) -> None:
    """Raises WeirError if another job has read, or is reading, a topic that job `made` would write a second time."""
    from weir.schemas.errors import WeirError
    from weir.streams.engine.admin.reset import Reset
    from weir.streams.engine.progress.offsets import Group
    from weir.streams.jobs import registry as jobs

    for other in (jobs.make(name, config) for name in jobs.JOBS):
        if other.source.name not in {topic.name for topic in made.writes}:
            continue
        group = Group(config, other.name)
        if group.committed(other.source.name, group.partitions(other.source.name)) or Reset(config, other).members():
            raise WeirError(
                f"{other.name} reads {other.source.name}, which {made.name} would write again, and count twice: "
                f"stop the workers of {other.name}, run `weir reset {other.name}`, and then this command"
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
    """Runs the steps in this order: an interrupted reset keeps workers from starting, and can be run again."""
    from weir.consumers.sinks import reset as sink_reset

    steps.fence()
    steps.mark()
    steps.configure()
    for topic in made.writes:
        steps.delete_records(topic)
    steps.reshape()
    steps.delete_state()
    if stores:
        sink_reset.empty(config, stores)
    steps.delete_group()
