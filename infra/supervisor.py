"""Runs servers and services side by side, starts again what dies, and ends them all in order."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from types import TracebackType

from infra.config import Config
from infra.keeper import Child, Keeper
from infra.processes import end
from infra.status import StatusFile
from infra.threads import in_daemon

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
        self._servers: list[Keeper] = []
        self._services: list[Keeper] = []

    async def __aenter__(self) -> Supervisor:
        self._say()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the services, all at once, then the servers they write to. Takes less than 5 s."""
        for keepers, seconds in ((self._services, SERVICES_END_S), (self._servers, SERVERS_END_S)):
            await asyncio.gather(*(keeper.stop() for keeper in keepers))
            await _end(keepers, seconds)
            for keeper in keepers:
                keeper.forget()
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

    async def _start(self, keepers: list[Keeper], children: Iterable[Child], fatal: bool) -> None:
        new = [Keeper(self._config, child, self._say) for child in children]
        keepers += new
        self._say()
        places = asyncio.Semaphore(AT_ONCE)

        async def start(keeper: Keeper) -> None:
            async with places:
                await keeper.start(fatal)

        starts = [asyncio.create_task(start(keeper)) for keeper in new]
        try:
            await asyncio.gather(*starts)
        finally:  # where one could not be started, none of the others may come up later
            for task in starts:
                task.cancel()
            await asyncio.gather(*starts, return_exceptions=True)

    def _say(self) -> None:
        keepers = self._servers + self._services
        deaths = {f"restarts.{k.child.name}": k.policy.deaths for k in keepers if k.policy.deaths}
        self._status.set("running", children=",".join(k.child.name for k in keepers), **deaths)


async def _end(keepers: list[Keeper], seconds: float) -> None:
    processes = {k.process: k.child.stop_signal for k in keepers if k.process}
    await in_daemon(lambda: end(processes, seconds))
