"""A service, and its process as the supervisor runs it."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from weir.infra.config import Config
from weir.infra.errors import ServerFailedError
from weir.infra.ports import Port, check_all_free
from weir.infra.runtime.patience import waiting_for
from weir.infra.runtime.status import ServiceStatus, read_one
from weir.infra.supervisor.logs import LogPump
from weir.infra.supervisor.processes import Process, spawn
from weir.schemas.topic import Topic

#: Seconds after which it is told that a service is still starting.
_SLOW_S = 20.0
#: Seconds after which a service that runs and says nothing is taken for started: it may have no room to say it in.
_SILENT_S = 60.0


@dataclass(frozen=True)
class Service:
    """One service. `command` is what follows `weir`; `ports` are the names (`Config.port`) of those it listens on,
    and `scheme` is what it speaks there. `tables`: it wants those in Postgres. `check` raises ConfigError where the
    configuration is none to start it with. `reads` and `writes` are its topics, as `weir.services.flows` draws them.
    """

    name: str
    command: Callable[[Config], tuple[str, ...]]
    description: str
    ports: tuple[str, ...] = ()
    scheme: str = "http"
    tables: bool = False
    check: Callable[[Config], None] = lambda config: None
    wanted: Callable[[Config], bool] = lambda config: True
    reads: Sequence[Topic] = ()
    writes: Sequence[Topic] = ()


class ServiceProcess:
    """A service as the supervisor runs it. What it prints goes to its log, by `logs`."""

    writes_own_status = True
    stop_signal = signal.SIGTERM
    #: A service must survive a crash in any case, and a hard end cannot hang.
    signal_at_parents_end = signal.SIGKILL

    def __init__(self, config: Config, service: Service, logs: LogPump) -> None:
        self._config = config
        self._service = service
        self._logs = logs
        self.name = service.name
        self.ports = [
            Port(config.host, config.port(port), f"the service {self.name}", f"WEIR_{port.upper()}_PORT")
            for port in service.ports
        ]
        self.address = f"{service.scheme}://{config.host}:{self.ports[0].number}" if self.ports else None

    def check(self) -> None:
        """Raises ConfigError if the service cannot start with this configuration."""
        self._service.check(self._config)

    def prepare(self) -> None:
        """Checks its settings and ports. Raises ConfigError and PortTakenError."""
        self.check()
        check_all_free(self.ports)

    def spawn(self) -> Process:
        """Starts `weir …` with this weir's interpreter and environment."""
        # -P: the current folder is no place to import from, whatever modules lie in it.
        command = [sys.executable, "-P", "-m", "weir", *self._service.command(self._config)]
        with self._logs.pipe(self.name) as output:
            return spawn(command, output=output, signal_at_parents_end=self.signal_at_parents_end)

    def wait_ready(self, process: Process) -> None:
        """Returns once the service says that it is past its start, or has said nothing for long. Blocks; raises
        ServerFailedError where it ends."""
        silent = time.monotonic() + _SILENT_S
        with waiting_for(f"{self.name}, which is still starting", _SLOW_S):
            while not self._is_past_its_start(process):
                if (code := process.poll()) is not None:
                    raise ServerFailedError(f"{self.name} ended with code {code}")
                if time.monotonic() >= silent and self._said(process) is None:
                    return
                time.sleep(0.05)

    def _is_past_its_start(self, process: Process) -> bool:
        said = self._said(process)
        return said is not None and said.state != "starting"

    def _said(self, process: Process) -> ServiceStatus | None:
        said = read_one(self._config, self.name)
        return said if said is not None and said.pid == process.pid else None
