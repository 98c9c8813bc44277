"""`weir worker JOB`: one worker of a stream job, any number of times."""

from __future__ import annotations

import os
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command("worker")(worker)


def worker(
    job: Annotated[str, typer.Argument(help="The job: links.")],
    name: Annotated[str | None, typer.Option(help="What `weir status` calls this worker.")] = None,
    crash_at: Annotated[str | None, typer.Option(hidden=True, help="STEP:TOPIC:N, for tests.")] = None,
) -> None:
    """Runs one worker of a stream job. Start as many as you like: they share the partitions."""
    from infra import log
    from infra.config import load
    from infra.kafka import ensure_topics
    from infra.status import StatusFile
    from streams import jobs
    from streams.engine import crash_points
    from streams.engine.worker import run

    config = load(os.environ)
    log.setup(config, f"worker-{job}")
    made = jobs.make(job, config)
    if crash_at is not None:
        crash_points.arm(crash_at)
    ensure_topics(config)
    run(config, made, StatusFile(config, name or f"worker-{job}-{os.getpid()}"))
