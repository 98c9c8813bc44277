"""Settings of every process: its log, and the endpoint of workers and others without a port of their own."""

from __future__ import annotations

from dataclasses import dataclass

from weir.infra.config.settings import Section, one_of, setting, whole


@dataclass(frozen=True)
class LogConfig(Section):
    """The log lines of a process."""

    level: str = setting(
        "WEIR_LOG_LEVEL", "info", one_of("debug", "info", "warning", "error"), "least severe level that is logged"
    )
    format: str = setting("WEIR_LOG_FORMAT", "console", one_of("console", "json"), "how log lines are written")


@dataclass(frozen=True)
class WorkerConfig(Section):
    """A worker of a job."""

    port: int = whole(
        "WEIR_WORKER_PORT",
        0,
        0,
        65535,
        "where a worker serves GET /tables, and a worker, a sink or the feed GET /metrics; 0: any port that is free",
    )
