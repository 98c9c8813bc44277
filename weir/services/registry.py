"""The registry of services: a worker of each job, each sink, and what is listed here; each runs a `weir` command."""

from __future__ import annotations

from collections.abc import Callable

from weir.consumers import registry as consumers
from weir.infra.config import Config
from weir.infra.errors import ConfigError
from weir.infra.supervisor.service import Service
from weir.infra.websocket.basic_auth import check_credentials
from weir.schemas.topics import BROADCAST, COMMUNICATIONS, METRIC_EVENTS, MONITORING_EVENTS, RELATIONS
from weir.streams.jobs import registry as jobs

#: The services that are neither a job's worker nor a sink.
SERVICES = (
    Service(
        "api",
        lambda c: ("run", "api"),
        "serves GET /links, /tables, /analytics and /health",
        ports=("api",),
        tables=True,
    ),
    Service(
        "feed",
        lambda c: ("feed", "connect"),
        "reads WEIR_FEED_URL, and sends the counts back",
        wanted=lambda c: c.feed.url is not None,
        reads=consumers.VIEWS["reporter"],
        writes=(RELATIONS, COMMUNICATIONS),
    ),
    Service(
        "broadcast",
        lambda c: ("run", "broadcast", "--name", "broadcast"),
        "takes messages in over WebSockets, and hands each to everyone who subscribes",
        ports=("broadcast", "listener", "broadcaster"),
        scheme="ws",
        check=check_credentials,
        reads=(BROADCAST,),
        writes=(BROADCAST,),
    ),
    Service(
        "monitoring",
        lambda c: ("run", "monitoring"),
        "takes clients' events in at POST /events, and serves GET /clients",
        ports=("monitoring",),
        reads=consumers.VIEWS["monitoring"],
        writes=(MONITORING_EVENTS,),
    ),
    Service(
        "metrics",
        lambda c: ("run", "metrics"),
        "takes metric events in at POST /metric-events, and serves GET /aggregates",
        ports=("metrics",),
        reads=consumers.VIEWS["metrics"],
        writes=(METRIC_EVENTS,),
    ),
)


def services() -> list[Service]:
    """Returns all services, in the order in which they are started: a worker of each job, the sinks, and the rest."""
    workers = [_worker(name) for name in jobs.JOBS]
    stores = [_store(name) for name in consumers.SINKS]
    return [*workers, *stores, *SERVICES]


def _worker(job: str) -> Service:
    name = f"worker-{job}"
    return Service(name, lambda _: ("worker", job, "--name", name), jobs.JOBS.description(job))


def _store(name: str) -> Service:
    return Service(name, lambda _: ("run", name), consumers.SINKS.description(name), tables=True)


EMBEDDED: dict[str, Callable[[Config], bool]] = {
    "kafka": lambda c: c.kafka.url is None,
    "postgres": lambda c: c.postgres.url is None,
}


def wanted(config: Config, only: str | None = None) -> list[str]:
    """The names of the embedded servers and services that `weir up [--only a,b]` runs, servers first.

    Raises ConfigError for a name that is none, or that this configuration does not run.
    """
    possible = [name for name, embedded in EMBEDDED.items() if embedded(config)]
    possible += [service.name for service in services() if service.wanted(config)]
    if only is None:
        return possible
    if not (chosen := {name.strip() for name in only.split(",")} - {""}):
        raise ConfigError(f"--only names no service; available: {', '.join(possible)}")
    for name in sorted(chosen - set(possible)):
        if name in EMBEDDED:
            raise ConfigError(f"--only {name}: WEIR_{name.upper()} is set, so no embedded {name} runs")
        if name == "feed":
            raise ConfigError("--only feed: WEIR_FEED_URL is not set")
        raise ConfigError(f"--only {name}: unknown service; available: {', '.join(possible)}")
    return [name for name in possible if name in chosen]
