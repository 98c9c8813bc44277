"""One worker process: Faust's worker around a job's app."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

import faust

from weir.infra.config import Config
from weir.infra.log import get_logger
from weir.infra.runtime.interpreter import for_many_records
from weir.infra.runtime.status import REFUSED, StatusFile
from weir.streams.engine.core.errors import JobRefusedError
from weir.streams.engine.core.job import Job
from weir.streams.engine.dataplane.dataplane import fail
from weir.streams.engine.worker.app import FaustApp, app_for

#: How long Faust has to leave the group, in seconds: it was seen to try for ever.
LEAVE_S = 5.0

log = get_logger(__name__)


class _Worker(faust.Worker):  # type: ignore[misc]
    def _schedule_shutdown(self, number: signal.Signals) -> None:
        log.info("worker.stopping", signal=number.name)
        threading.excepthook = _ended_badly
        super()._schedule_shutdown(number)


def _ended_badly(ended: threading.ExceptHookArgs) -> None:
    """A thread of Faust's that cannot leave its group in order: Kafka notices by itself that a member has gone."""
    log.debug("worker.thread_ended", thread=ended.thread and ended.thread.name, error=repr(ended.exc_value))


def _leave(seconds: float) -> None:
    """Ends the process after so many seconds, if it still runs then. All its transactions have ended before."""

    def end() -> None:
        time.sleep(seconds)
        log.info("worker.stopped", left_its_group=False)
        os._exit(0)

    threading.Thread(target=end, daemon=True).start()


def prepared(config: Config, job: Job, status: StatusFile) -> FaustApp:
    """The job's app as a worker runs it: it says in `status` how it does, and where it serves."""

    def give_up(error: BaseException) -> None:
        if isinstance(error, JobRefusedError):
            status.set(REFUSED, error=str(error))
        fail(error)

    app = app_for(config, job, give_up)
    plane, endpoint = app.plane, app.endpoint

    @app.task  # type: ignore[untyped-decorator]
    async def begin() -> None:
        for_many_records()

    @app.timer(1.0)  # type: ignore[untyped-decorator]
    async def say() -> None:
        state, own, reason = plane.state
        status.address = endpoint.address
        dropped = {} if plane.dropped is None else {"dropped": plane.dropped}
        why = {} if reason is None else {"error": reason}
        status.set(state, partitions=" ".join(own), **dropped, **why)

    @app.on_before_shutdown.connect  # type: ignore[untyped-decorator]
    async def forget(*_: Any, **__: Any) -> None:
        status.remove()
        _leave(0 if plane.waits.is_kafka_away else LEAVE_S)

    return app


def run(config: Config, job: Job, status: StatusFile) -> None:
    """Runs until SIGINT or SIGTERM, then leaves the group and exits. Does not return. Raises PortTakenError."""
    app = prepared(config, job, status)
    app.endpoint.listen()
    status.address = app.endpoint.address
    status.set("starting")
    worker = _Worker(app, override_logging=False, redirect_stdouts=False, quiet=True, stdout=sys.stderr)
    worker.spinner = None  # its terminal codes would stand in the log
    try:
        worker.execute_from_commandline()
    except SystemExit as e:
        if not e.code:
            log.info("worker.stopped")
        raise
