"""One worker process: Faust's worker around a job's app."""

from __future__ import annotations

import gc
import sys
from typing import Any

import faust

from infra.config import Config
from infra.status import StatusFile
from streams.engine.app import App, app_for
from streams.engine.job import Job

#: How many objects may be made between two looks for cycles. At the default of 700, a flush's cells, which hold no
#: cycles, are looked through again and again.
GARBAGE = 100_000
#: How long a thread may keep the interpreter while another waits. At the default of 5 ms the reading thread and the
#: commits wait for the event loop most of their time.
SWITCH_S = 0.0005


def prepared(config: Config, job: Job, status: StatusFile) -> App:
    """The job's app as a worker runs it: it says in `status` how it does, and where it serves."""
    app = app_for(config, job)
    plane, endpoint = app.plane, app.endpoint

    @app.task  # type: ignore[untyped-decorator]
    async def begin() -> None:
        gc.set_threshold(GARBAGE)
        sys.setswitchinterval(SWITCH_S)

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
