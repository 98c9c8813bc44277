"""The registry of jobs: a new one is one file beside this, and one line here; an app's are added by `JOBS.register`."""

from __future__ import annotations

from collections.abc import Callable

from weir.infra.config import Config
from weir.infra.registry import Registry
from weir.streams.engine.core.job import Job

JobFactory = Callable[[Config], Job]

JOBS: Registry[JobFactory] = Registry(
    "job",
    {
        "links": ("weir.streams.jobs.links:job", "counts links per window and pair of parents"),
        "metrics": ("weir.streams.jobs.metrics:job", "aggregates metric events per type and minute"),
        "monitoring-ids": (
            "weir.streams.jobs.monitoring_ids:job",
            "lets each event of a monitored client through once",
        ),
        "monitoring": (
            "weir.streams.jobs.monitoring:job",
            "adds up clients' events per key, or keeps them as a series",
        ),
    },
)


def make(name: str, config: Config) -> Job:
    """Returns the job of that name. Raises ConfigError where there is none."""
    return JOBS.get(name)(config)
