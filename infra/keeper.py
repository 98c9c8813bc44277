"""One supervised child's life: prepare, spawn, wait until it is ready, wait until it dies, and again.

What a child says of itself (`infra.status`) is left alone while it lives. Between death and restart, and for a server
that cannot say anything, its keeper speaks.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Protocol

from infra import log
from infra.backoff import Backoff
from infra.config import Config
from infra.errors import StartError
from infra.processes import Process, end
from infra.restarts import RestartPolicy
from infra.status import StatusFile
from infra.threads import in_daemon

_log = log.get(__name__)


class Child(Protocol):
    """What can be supervised: an embedded server or a service."""

    name: str
    stop_signal: signal.Signals
    #: Whether it writes its own status file.
    speaks: bool

    @property
    def address(self) -> str | None:
        """`scheme://host:port` where it listens, if it does."""

    def prepare(self) -> None:
        """Makes everything a start needs. Blocks; raises StartError."""

    def spawn(self) -> Process:
        """Starts the process and returns at once."""

    def wait_ready(self, process: Process) -> None:
        """Returns once it is ready. Blocks; raises StartError where it ends or takes too long."""


class Keeper:
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
            _log.error("keeper.failed", child=self.child.name, exc_info=task.exception())

    async def _keep(self, error: StartError | None) -> None:
        """Waits for a death, or for the time after a start that failed with `error`, and tries again; for ever."""
        while True:
            code = await self._death()
            delay = self.policy.died()
            facts: dict[str, int | float | str | None] = {
                "exit_code": code,
                "restarts": self.policy.deaths,
                "retry_in_s": round(delay, 2),
            }
            if error:
                facts["error"] = str(error)
            _log.warning("child.died", child=self.child.name, **facts)
            StatusFile(self._config, self.child.name, self.child.address).set("failed", **facts)
            self._changed()
            await asyncio.sleep(delay)
            error = await self._attempt()

    async def _death(self) -> int | None:
        """The exit code, once the process has ended (negative: the signal that ended it); None for no process."""
        return await in_daemon(self.process.wait) if self.process else None

    async def _attempt(self) -> StartError | None:
        """One start; gives the error where it fails, and leaves nothing running then."""
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
        _log.info("child.ready", child=self.child.name, pid=process.pid, address=self.child.address)
        return None

    def _speak(self, state: str, process: Process) -> None:
        if not self.child.speaks:
            StatusFile(self._config, self.child.name, self.child.address, process.pid).set(state)
