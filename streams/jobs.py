"""The list of jobs: a new one is one file beside this, and one line here."""

from __future__ import annotations

from collections.abc import Callable

from infra.config import Config
from infra.errors import ConfigError
from streams import links, metrics, monitoring, monitoring_ids
from streams.engine.job import Job

JOBS: dict[str, Callable[[Config], Job]] = {
    "links": links.job,
    "metrics": metrics.job,
    "monitoring-ids": monitoring_ids.job,
    "monitoring": monitoring.job,
}


def make(name: str, config: Config) -> Job:
    """The job of that name. Raises ConfigError where there is none."""
    if name not in JOBS:
        raise ConfigError(f"there is no job {name!r}; the known ones are {', '.join(JOBS)}")
    return JOBS[name](config)
