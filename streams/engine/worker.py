"""One worker process: Faust's worker around a job's app."""

from __future__ import annotations

import sys
from typing import Any

import faust

from infra.config import Config
from infra.interpreter import for_many_records
from infra.status import StatusFile
from streams.engine.app import App, app_for
from streams.engine.job import Job


def prepared(config: Config, job: Job, status: StatusFile) -> App:
    """The job's app as a worker runs it: it says in `status` how it does, and where it serves."""
    app = app_for(config, job)
    plane, endpoint = app.plane, app.endpoint

    @app.task  # type: ignore[untyped-decorator]
    async def begin() -> None:
        for_many_records()

    @app.timer(1.0)  # type: ignore[untyped-decorator]
    async def say() -> None:
        own = sorted(f"{topic}[{partition}]" for topic, partition in plane.tasks)
        status.address = endpoint.address
        dropped = {} if plane.dropped is None else {"dropped": plane.dropped}
        status.set("running" if own else "waiting", partitions=" ".join(own), **dropped)

    @app.on_before_shutdown.connect  # type: ignore[untyped-decorator]
    async def forget(*_: Any, **__: Any) -> None:
        status.remove()

    return app


def run(config: Config, job: Job, status: StatusFile) -> None:
    """Runs until SIGINT or SIGTERM, then leaves the group and exits. Does not return. Raises PortTakenError."""
    app = prepared(config, job, status)
    app.endpoint.listen()
    status.address = app.endpoint.address
    status.set("starting")
    worker = faust.Worker(app, override_logging=False, redirect_stdouts=False, quiet=True, stdout=sys.stderr)
    worker.spinner = None  # its terminal codes would stand in the log
    worker.execute_from_commandline()
