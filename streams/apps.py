"""The jobs as apps for Faust's own command line: `faust -A streams.apps:links worker -l info`.

An app is made when it is asked for, from the environment, and is the one that `weir worker` runs. Its name here is an
identifier: `monitoring_ids` for the job monitoring-ids.
"""

from __future__ import annotations

import os
from functools import lru_cache

import structlog

from infra.config import load
from infra.status import StatusFile
from streams import jobs
from streams.engine.app import App
from streams.engine.worker import prepared


def __getattr__(name: str) -> App:
    job = name.replace("_", "-")
    if job not in jobs.JOBS:
        raise AttributeError(f"there is no job {job!r}; the known ones are {', '.join(jobs.JOBS)}")
    return _app(job)


@lru_cache
def _app(name: str) -> App:
    config = load(os.environ)
    # Faust sets up the log: weir's lines go into it as text.
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer(key_order=["event"])],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return prepared(config, jobs.make(name, config), StatusFile(config, f"worker-{name}-{os.getpid()}"))
