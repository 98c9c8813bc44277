"""Runs servers and services side by side, starts again what dies, and ends them all in order."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from types import TracebackType

from weir.infra.config import Config
from weir.infra.runtime.status import StatusFile
from weir.infra.runtime.threads import in_daemon
from weir.infra.supervisor.child import Child, ChildSupervisor
from weir.infra.supervisor.processes import end

#: Seconds that services, and after them servers, have to end; what is left then is killed. Together less than 5.
SERVICES_END_S = 2.0
SERVERS_END_S = 2.5
#: So many children start at once. A start is mostly imports: more would take the processors from each other, and all be
#: late instead of the last.
AT_ONCE = max(4, 2 * (os.cpu_count() or 1))


class Supervisor:
    """Supervises children within `async with`; all have ended when the block is left.

    Its event loop must run in a thread that lives as long as the children are wanted (the main thread): to Linux,
    the thread that starts a child is its parent, and children end with their parent.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._status = StatusFile(config, "weir")
        self._servers: list[ChildSupervisor] = []
        self._services: list[ChildSupervisor] = []

    async def __aenter__(self) -> Supervisor:
        self._say()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the services, all at once, then the servers they write to. Takes less than 5 s."""
        for child_supervisors, seconds in ((self._services, SERVICES_END_S), (self._servers, SERVERS_END_S)):
            await asyncio.gather(*(child_supervisor.stop() for child_supervisor in child_supervisors))
            await _end(child_supervisors, seconds)
            for child_supervisor in child_supervisors:
                child_supervisor.forget()
        self._status.remove()

    async def start_servers(self, children: Iterable[Child]) -> None:
        """Starts servers, all at once; returns when all are ready. Raises StartError where one cannot be started."""
        await self._start(self._servers, children, fatal=True)

    async def start_services(self, children: Iterable[Child]) -> None:
        """Starts services in this order, some at once; returns when each is ready or has died for the first time.

        Raises StartError, before any is started, where one cannot be (its port is taken).
        """
        children = list(children)
        for child in children:
            child.prepare()
        await self._start(self._services, children, fatal=False)

    async def _start(self, child_supervisors: list[ChildSupervisor], children: Iterable[Child], fatal: bool) -> None:
        new = [ChildSupervisor(self._config, child, self._say) for child in children]
        child_supervisors += new
        self._say()
        places = asyncio.Semaphore(AT_ONCE)

        async def start(child_supervisor: ChildSupervisor) -> None:
            async with places:
                await child_supervisor.start(fatal)

        starts = [asyncio.create_task(start(child_supervisor)) for child_supervisor in new]
        try:
            await asyncio.gather(*starts)
        finally:  # where one could not be started, none of the others may come up later
            for task in starts:
                task.cancel()
            await asyncio.gather(*starts, return_exceptions=True)

    def _say(self) -> None:
        child_supervisors = self._servers + self._services
        deaths = {f"restarts.{k.child.name}": k.policy.deaths for k in child_supervisors if k.policy.deaths}
        self._status.set("running", children=",".join(k.child.name for k in child_supervisors), **deaths)


async def _end(child_supervisors: list[ChildSupervisor], seconds: float) -> None:
    processes = {k.process: k.child.stop_signal for k in child_supervisors if k.process}
    await in_daemon(lambda: end(processes, seconds))
