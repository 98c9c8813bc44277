"""What `weir up` runs: the one list of services, each a `weir` command in a process of its own."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infra.config import Config
from infra.errors import ConfigError, ServerFailedError
from infra.ports import check_free
from infra.processes import Process, spawn
from infra.status import read_one
from infra.websocket.basic_auth import check_credentials

#: Seconds after which a service's start counts as done, whatever it says of itself.
_PATIENCE = 20.0


@dataclass(frozen=True)
class Service:
    """One service. `command` is what follows `weir`; `ports` are the names in `infra.config.PORTS` it listens on, and
    `scheme` is what it speaks there. `tables`: it wants those in Postgres. `check` raises ConfigError where the
    configuration is none to start it with.
    """

    name: str
    command: Callable[[Config], tuple[str, ...]]
    description: str
    ports: tuple[str, ...] = ()
    scheme: str = "http"
    tables: bool = False
    check: Callable[[Config], None] = lambda config: None
    wanted: Callable[[Config], bool] = lambda config: True


#: In the order in which they are started.
SERVICES = (
    Service(
        "worker-links",
        lambda c: ("worker", "links", "--name", "worker-links"),
        "counts links per window and pair of parents",
    ),
    Service("link-store", lambda c: ("run", "link-store"), "writes link counts to Postgres", tables=True),
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
        wanted=lambda c: c.feed_url is not None,
    ),
    Service(
        "broadcast",
        lambda c: ("run", "broadcast", "--name", "broadcast"),
        "takes messages in over WebSockets, and hands each to everyone who subscribes",
        ports=("broadcast", "listener", "broadcaster"),
        scheme="ws",
        check=check_credentials,
    ),
    Service(
        "worker-monitoring-ids",
        lambda c: ("worker", "monitoring-ids", "--name", "worker-monitoring-ids"),
        "lets each event of a monitored client through once",
    ),
    Service(
        "worker-monitoring",
        lambda c: ("worker", "monitoring", "--name", "worker-monitoring"),
        "adds up clients' events per key, or keeps them as a series",
    ),
    Service(
        "monitoring",
        lambda c: ("run", "monitoring"),
        "takes clients' events in at POST /events, and serves GET /clients",
        ports=("monitoring",),
    ),
    Service(
        "worker-metrics",
        lambda c: ("worker", "metrics", "--name", "worker-metrics"),
        "aggregates metric events per type and minute",
    ),
    Service(
        "metrics",
        lambda c: ("run", "metrics"),
        "takes metric events in at POST /metric-events, and serves GET /aggregates",
        ports=("metrics",),
    ),
    Service("metric-store", lambda c: ("run", "metric-store"), "writes metric aggregates to Postgres", tables=True),
    Service("analytics-store", lambda c: ("run", "analytics-store"), "writes tenants' events to Postgres", tables=True),
)
EMBEDDED: dict[str, Callable[[Config], bool]] = {
    "kafka": lambda c: c.kafka is None,
    "postgres": lambda c: c.postgres is None,
}


def wanted(config: Config, only: str | None = None) -> list[str]:
    """The names of the embedded servers and services that `weir up [--only a,b]` runs, servers first.

    Raises ConfigError for a name that is none, or that this configuration does not run.
    """
    possible = [name for name, embedded in EMBEDDED.items() if embedded(config)]
    possible += [service.name for service in SERVICES if service.wanted(config)]
    if only is None:
        return possible
    if not (chosen := {name.strip() for name in only.split(",")} - {""}):
        raise ConfigError(f"--only names nothing; there are {', '.join(possible)}")
    for name in sorted(chosen - set(possible)):
        if name in EMBEDDED:
            raise ConfigError(f"--only {name}: WEIR_{name.upper()} is set, so there is no embedded one")
        if name == "feed":
            raise ConfigError("--only feed: WEIR_FEED_URL is not set")
        raise ConfigError(f"--only {name}: no such service; there are {', '.join(possible)}")
    return [name for name in possible if name in chosen]


class ServiceProcess:
    """A service as the supervisor runs it. Its output is weir's own, or goes to a file of its own in `logs`."""

    speaks = True
    stop_signal = signal.SIGTERM
    #: A service must survive a crash in any case, and a hard end cannot hang.
    signal_at_parents_end = signal.SIGKILL

    def __init__(self, config: Config, service: Service, logs: Path | None = None) -> None:
        self._config = config
        self._service = service
        self._log = logs / f"{service.name}.log" if logs else None
        self.name = service.name
        self._ports = {port: getattr(config, f"{port}_port") for port in service.ports}
        first = next(iter(self._ports.values()), None)
        self.address = f"{service.scheme}://{config.host}:{first}" if first else None

    def prepare(self) -> None:
        """Checks its settings and ports. Raises ConfigError and PortTakenError."""
        self._service.check(self._config)
        for port, number in self._ports.items():
            check_free(self._config.host, number, f"the service {self.name}", f"WEIR_{port.upper()}_PORT")

    def spawn(self) -> Process:
        """Starts `weir …` with this weir's interpreter and environment."""
        command = [sys.executable, "-m", "infra.cli.main", *self._service.command(self._config)]
        return spawn(command, log=self._log, signal_at_parents_end=self.signal_at_parents_end)

    def wait_ready(self, process: Process) -> None:
        """Returns once the service says that it is past its start. Blocks; raises ServerFailedError where it ends."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            if (code := process.poll()) is not None:
                raise ServerFailedError(f"{self.name} ended with code {code}")
            said = read_one(self._config, self.name)
            if said is not None and said.pid == process.pid and said.state != "starting":
                return
            time.sleep(0.05)
