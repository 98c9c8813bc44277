"""`weir worker JOB`: one worker of a stream job, any number of times."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from infra.config import Config
    from streams.engine.job import Job


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command("worker")(worker)


def worker(
    job: Annotated[str, typer.Argument(help="The job: links, monitoring-ids, monitoring or metrics.")],
    name: Annotated[str | None, typer.Option(help="What `weir status` calls this worker.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Draw the job instead; nothing is started.")] = False,
    crash_at: Annotated[str | None, typer.Option(hidden=True, help="STEP:TOPIC:N, for tests.")] = None,
) -> None:
    """Runs one worker of a stream job. Start as many as you like: they share the partitions."""
    from infra import log
    from infra.config import load
    from infra.interpreter import share_memory
    from infra.kafka import ensure_topics
    from infra.status import StatusFile
    from streams import jobs
    from streams.engine import crash_points
    from streams.engine.worker import run

    config = load(os.environ)
    if explain:
        _explain(config, jobs.make(job, config))
        return
    share_memory()
    log.setup(config, f"worker-{job}")
    made = jobs.make(job, config)
    if crash_at is not None:
        crash_points.arm(crash_at)
    ensure_topics(config)
    run(config, made, StatusFile(config, name or f"worker-{job}-{os.getpid()}"))


def _explain(config: Config, job: Job) -> None:
    """Draws the job with the partitions that Kafka has, or would be given where it does not answer."""
    from confluent_kafka import KafkaException

    from consumers.readers import readers_of
    from infra.kafka import admin
    from streams.engine.explain import explain

    topics = [*(task.topic for task in job.tasks), *job.writes]
    counts = {topic.name: topic.partitions or config.partitions for topic in topics}
    try:
        there = admin(config).list_topics(timeout=3).topics
        found = {t.name: len(there[config.topic(t.name)].partitions) for t in topics if config.topic(t.name) in there}
    except KafkaException:
        typer.echo(f"no Kafka answers at {config.bootstrap}: partitions as they are configured", err=True)
        found = {}
    typer.echo(explain(job, counts | found, readers_of))
