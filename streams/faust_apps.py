"""The jobs as apps for Faust's own command line: `faust -A weir.streams.faust_apps:links worker -l info`.

An app is made when it is asked for, from the environment, and is the one that `weir worker` runs. Its name here is an
identifier: `monitoring_ids` for the job monitoring-ids.
"""

from __future__ import annotations

import os
from functools import lru_cache

from weir.infra.config import load
from weir.infra.log import log_as_text
from weir.infra.runtime.status import StatusFile
from weir.streams.engine.worker.app import FaustApp
from weir.streams.engine.worker.worker import prepared
from weir.streams.jobs import registry as jobs


def __getattr__(name: str) -> FaustApp:
    job = name.replace("_", "-")
    if job not in jobs.JOBS:
        raise AttributeError(f"unknown job {job!r}; known jobs: {', '.join(jobs.JOBS)}")
    return _app(job)


@lru_cache
def _app(name: str) -> FaustApp:
    config = load(os.environ)
    log_as_text()
    return prepared(config, jobs.make(name, config), StatusFile(config, f"worker-{name}-{os.getpid()}"))
