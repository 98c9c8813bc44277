"""A process that stands between WebSockets and Kafka: waits for Kafka, serves, says how it does, ends within 5 s."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Protocol

from weir.infra import log
from weir.infra.config import Config
from weir.infra.connections.admission import ConnectionLimits
from weir.infra.errors import RetryableError
from weir.infra.runtime.patience import until_answered
from weir.infra.runtime.status import StatusFile
from weir.infra.websocket.connection import Connection
from weir.infra.websocket.descriptors import fit
from weir.infra.websocket.limits import Limits
from weir.infra.websocket.server import Route, WebSocketServer

#: Seconds that Kafka has at the end for what was taken in, and then peers for the closing handshake. What is left of
#: the 5 s is for sides that have more to let go of (half a second each), and for the interpreter's own end.
FLUSH_TIMEOUT, CLOSE_TIMEOUT = 2.0, 1.0
#: How often the status file is written where there is news, in seconds.
_TELL = 1.0

Facts = Mapping[str, str | int | float | bool | None]


class Side(Protocol):
    """The way in or the way out, as far as it concerns the process around it."""

    async def open(self) -> None:
        """Gets ready. Raises KafkaUnavailableError; then it may be called again."""

    async def work(self) -> None:
        """Runs until cancelled. Raises WeirError where it cannot go on."""

    async def close(self) -> None:
        """Ends what it does, open or not; work has ended. The connections are the server's to close."""

    @property
    def state(self) -> str:
        """`waiting` while Kafka does not answer, else `running`."""


async def serve(
    config: Config,
    service: str,
    routes: Mapping[int, Sequence[Route]],
    sides: Sequence[Side],
    tell: Callable[[], Facts],
    *,
    port: int,
    name: str | None = None,
    close_reason: Callable[[Connection], str] = lambda connection: "",
) -> None:
    """Serves each port's routes until cancelled; waits for Kafka first, however long.

    `weir status` calls it `name`, or by the service and the `port`, since there may be several; with `tell` as its
    detail. At the end closes sides in their order, then connections, with 1001 and `close_reason`, within 5 s. Raises
    ConfigError, StartError, and WeirError where Kafka refuses for good.
    """
    said, address = log.get_logger(service), f"ws://{config.host}:{port}"
    status = StatusFile(config, name or f"{service}-{port}", address)
    limits = fit(Limits.of(config.broadcast), len(routes))
    counts = ConnectionLimits(limits.connections, limits.per_address)
    servers = {at: WebSocketServer(found, limits, counts) for at, found in routes.items()}
    works: list[asyncio.Task[None]] = []
    status.set("starting")
    try:
        for side in sides:
            await _open_patiently(side, service, status)
        for at, server in servers.items():
            await server.start(config.host, at)
        said.info(f"{service}.running", address=address, ports=list(servers))
        works += [asyncio.create_task(side.work()) for side in sides]
        works.append(asyncio.create_task(_report(config, status, sides, tell)))
        done, _ = await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
        for work in done:
            work.result()
    finally:
        for side, work in zip_longest(sides, works):
            if work is not None:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
            if side is not None:
                await side.close()
        await asyncio.gather(
            *(server.stop(1001, lambda c: close_reason(c) or "the service is stopping", CLOSE_TIMEOUT)
              for server in servers.values())
        )  # fmt: skip
        status.remove()


async def _open_patiently(side: Side, service: str, status: StatusFile) -> None:
    """Opens it as soon as Kafka answers."""

    def told(error: RetryableError, _: int, retry_in_s: float) -> None:
        status.set("waiting", error=str(error), retry_in_s=retry_in_s)
        log.get_logger(service).warning(f"{service}.waiting", error=str(error), retry_in_s=retry_in_s)

    await until_answered(side.open, told)


async def _report(config: Config, status: StatusFile, sides: Sequence[Side], tell: Callable[[], Facts]) -> None:
    """Writes the status file whenever there is news."""
    said: object = None
    while True:
        state, facts = "running", tell()
        if any(side.state == "waiting" for side in sides):
            state, facts = "waiting", {"error": f"Kafka does not answer at {config.kafka.bootstrap}", **facts}
        if said != (said := (state, facts)):
            status.set(state, **facts)
        await asyncio.sleep(_TELL)
