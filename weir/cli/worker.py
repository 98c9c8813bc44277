"""`weir worker JOB`: one worker of a stream job, any number of times."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from weir.cli._groups import RUN
from weir.cli._shared import job_names

if TYPE_CHECKING:
    from weir.infra.config import Config
    from weir.streams.engine.core.job import Job


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command("worker", rich_help_panel=RUN)(worker)


def worker(
    job: Annotated[
        str,
        typer.Argument(
            help="The job: the name of one of weir's or of an app's, or module:attribute of your own.",
            autocompletion=job_names,
        ),
    ],
    name: Annotated[str | None, typer.Option(help="The worker's name in `weir status`.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Draw the job, and start nothing.")] = False,
    crash_at: Annotated[str | None, typer.Option(hidden=True, help="STEP:TOPIC:N, for tests.")] = None,
) -> None:
    """Run one worker of a stream job. Any number of workers share the job's partitions."""
    from weir.infra import log
    from weir.infra.config import load
    from weir.infra.runtime.interpreter import share_memory
    from weir.infra.runtime.status import StatusFile
    from weir.services import apps
    from weir.streams.engine.core import crash_points
    from weir.streams.engine.worker.worker import run

    config = load(os.environ)
    made = apps.job(job, config)
    if explain:
        _explain(config, made)
        return
    share_memory()
    log.setup(config, f"worker-{made.name}")
    if crash_at is not None:
        crash_points.arm(crash_at)
    status = name or f"worker-{made.name}-{os.getpid()}"
    if _kafka_is_there(config, status):
        run(config, made, StatusFile(config, status))


def _kafka_is_there(config: Config, status: str) -> bool:
    """Waits for Kafka, however long, and makes the topics, under a status of this name.

    Returns False where a signal ended that. Meanwhile the worker's port answers probes, and says what is waited for.
    """
    import asyncio

    from weir.infra.kafka.client import ensure_topics
    from weir.infra.runtime.lifecycle import ServiceLifecycle, ServicePart
    from weir.infra.runtime.signals import until_signal
    from weir.infra.runtime.threads import in_daemon
    from weir.infra.websocket.service import ProbeEndpoint

    class Topics(ServicePart):
        async def open(self) -> None:
            await in_daemon(lambda: ensure_topics(config, timeout=5))

        async def work(self) -> None:
            return

        @property
        def state(self) -> str:
            return "starting"

    async def wait() -> None:
        lifecycle = ServiceLifecycle(config, "worker", name=status, is_a_start=True)
        await lifecycle.run(Topics(), ProbeEndpoint(config, lifecycle))

    return not asyncio.run(until_signal(wait(), "worker"))


def _explain(config: Config, job: Job) -> None:
    """Draws the job with the partitions that Kafka has, or would be given where it does not answer."""
    from weir.consumers.registry import readers_of
    from weir.infra.errors import KafkaUnavailableError
    from weir.infra.kafka.client import topics_there
    from weir.streams.engine.admin.explain import explain

    topics = [*(task.topic for task in job.tasks), *job.writes]
    counts = {topic.name: topic.partitions or config.kafka.partitions for topic in topics}
    try:
        there = topics_there(config, 3)
        found = {t.name: len(there[config.topic(t.name)].partitions) for t in topics if config.topic(t.name) in there}
    except KafkaUnavailableError as e:
        typer.echo(f"{e}: partitions as they are configured", err=True)
        found = {}
    typer.echo(explain(job, counts | found, readers_of))
