"""One supervised child's life: prepare, spawn, wait until it is ready, wait until it dies, and again.

What a child says of itself (`weir.infra.runtime.status`) is left alone while it lives. Between death and restart, and
for a server that cannot say anything, its supervisor does.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from weir.infra import log
from weir.infra.config import Config
from weir.infra.errors import LoginLostError, StartError
from weir.infra.ports import Port
from weir.infra.runtime.backoff import Backoff
from weir.infra.runtime.status import FAILED, REFUSED, StatusFile, last_words, read_one
from weir.infra.runtime.threads import in_daemon
from weir.infra.supervisor.processes import Process, end
from weir.infra.supervisor.restarts import RestartPolicy

_log = log.get_logger(__name__)


class Child(Protocol):
    """Process that can be supervised: an embedded server or a service."""

    name: str
    stop_signal: signal.Signals
    #: Whether it writes its own status file.
    writes_own_status: bool

    @property
    def address(self) -> str | None:
        """`scheme://host:port` where it listens, if it does."""

    @property
    def ports(self) -> Sequence[Port]:
        """The ports that the child listens on."""

    def check(self) -> None:
        """Raises ConfigError if the child cannot start with its settings. Returns at once."""

    def prepare(self) -> None:
        """Makes everything a start needs. Blocks; raises StartError."""

    def spawn(self) -> Process:
        """Starts the process and returns at once."""

    def wait_ready(self, process: Process) -> None:
        """Returns once it is ready. Blocks; raises StartError where it ends or takes too long."""


class ChildSupervisor:
    """Keeps one child alive, from `start` to `stop`. `changed` is called at every death."""

    def __init__(self, config: Config, child: Child, changed: Callable[[], None]) -> None:
        self._config = config
        self._changed = changed
        self._task: asyncio.Task[None] | None = None
        self.child = child
        self.process: Process | None = None
        self.policy = RestartPolicy(time.monotonic, Backoff(first=0.5, cap=30.0))

    async def start(self, fatal: bool) -> None:
        """Returns when the child is ready, and keeps it from then on.

        A first start that fails raises StartError where it is `fatal`; else it is tried again like any other.
        """
        error = await self._attempt()
        if isinstance(error, LoginLostError):
            error = await self._attempt()
        if error and fatal:
            raise error
        self._task = asyncio.create_task(self._keep(error))
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Keeps it no longer; a process that still runs is left to the caller."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])

    def forget(self) -> None:
        """Removes its status, once it has ended for good."""
        StatusFile(self._config, self.child.name).remove()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():  # by nothing that was foreseen: the child is not kept any more, which must be seen
            _log.error("supervisor.failed", child=self.child.name, exc_info=task.exception())

    async def _keep(self, error: StartError | None) -> None:
        """Waits for a death, or for the time after a start that failed with `error`, and tries again; for ever."""
        while True:
            code = await self._death()
            said = last_words(self._config, self.child.name)
            refused = said is not None and said.state == REFUSED
            delay = self.policy.died(refused)
            facts: dict[str, int | float | str | None] = {
                "exit_code": code,
                "restarts": self.policy.deaths,
                "retry_in_s": round(delay, 2),
            }
            if said is not None and said.state in (REFUSED, FAILED) and said.detail.get("error"):
                facts["error"] = str(said.detail["error"])
            elif error:
                facts["error"] = str(error)
            _log.warning("child.refused" if refused else "child.died", child=self.child.name, **facts)
            state = REFUSED if refused else FAILED
            StatusFile(self._config, self.child.name, self.child.address).set(state, **facts)
            self._changed()
            await asyncio.sleep(delay)
            error = await self._attempt()

    async def _death(self) -> int | None:
        """The exit code, once the process has ended (negative: the signal that ended it); None for no process."""
        return await in_daemon(self.process.wait) if self.process else None

    async def _attempt(self) -> StartError | None:
        """Starts the child once; returns the error if that fails, with no process left running."""
        self.policy.started()
        self.process = None
        try:
            await in_daemon(self.child.prepare)
            self.forget()  # what the one before it said
            self.process = process = self.child.spawn()
            self._speak("starting", process)
            await in_daemon(lambda: self.child.wait_ready(process))
        except (StartError, OSError) as e:
            if self.process:
                failed = {self.process: self.child.stop_signal}
                await in_daemon(lambda: end(failed, seconds=2))
            return e if isinstance(e, StartError) else StartError(f"{self.child.name} cannot be started: {e}")
        self._speak("running", process)
        said = read_one(self._config, self.child.name) if self.child.writes_own_status else None
        facts = {"child": self.child.name, "pid": process.pid, "address": self.child.address}
        if not self.child.writes_own_status or (said is not None and said.state == "running"):
            _log.info("child.ready", **facts)
        else:  # it has started, and waits for something that it says itself; or cannot say anything
            _log.info("child.started", state=said.state if said else "unknown", **facts)
        return None

    def _speak(self, state: str, process: Process) -> None:
        if not self.child.writes_own_status:
            StatusFile(self._config, self.child.name, self.child.address, process.pid).set(state)
