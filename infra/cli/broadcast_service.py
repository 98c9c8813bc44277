"""`weir run broadcast`: listener and broadcaster as one process, and what is under which port then."""

from __future__ import annotations

import asyncio

from consumers import broadcaster as receiving_side
from consumers.broadcaster import Broadcaster
from infra import log
from infra.cli.broadcast import ROUTES
from infra.config import Config
from infra.status import StatusFile
from infra.websocket import Connection, Limits, WebSocketServer
from infra.websocket.limits import ConnectionCounts
from producers import listener as sending_side
from producers.listener import Listener

#: Seconds that connections have for the closing handshake when the service stops.
CLOSE_TIMEOUT = 1.5
#: How often the status file is written, in seconds.
_TELL = 1.0

_log = log.get("broadcast")


async def serve(config: Config) -> None:
    """Serves all three ports until cancelled; waits for Kafka first, however long.

    What was read by then is flushed and acknowledged, and connections are closed with 1001. Raises ConfigError,
    PortTakenError, and WeirError where Kafka refuses for good.
    """
    listener, broadcaster = Listener(config), Broadcaster(config)
    status = StatusFile(config, "broadcast", f"ws://{config.host}:{config.broadcast_port}")
    status.set("starting")
    limits = Limits.of(config)
    counts = ConnectionCounts(limits)
    servers = {
        getattr(config, f"{port}_port"): WebSocketServer(
            [*(listener.routes(*sending) if sending else ()), *broadcaster.routes(*receiving)], limits, counts
        )
        for port, (sending, receiving) in ROUTES.items()
    }
    tasks: list[asyncio.Task[None]] = []

    def reason(connection: Connection) -> str:
        return broadcaster.farewell(connection) or "the service is stopping"

    try:
        await sending_side.open_patiently(listener, status)
        await receiving_side.open_patiently(broadcaster, status)
        for port, server in servers.items():
            await server.start(config.host, port)
        _log.info("broadcast.running", ports=list(servers))
        works = (listener.work(), broadcaster.work(), _tell(config, status, listener, broadcaster))
        tasks += map(asyncio.create_task, works)
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await listener.close()  # first, so that what is written now is still handed out
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(server.stop(1001, reason, CLOSE_TIMEOUT) for server in servers.values()))
        await broadcaster.close()
        status.remove()


async def _tell(config: Config, status: StatusFile, listener: Listener, broadcaster: Broadcaster) -> None:
    """Says how both do, whenever that has changed."""
    ports = {name: f"ws://{config.host}:{getattr(config, f'{name}_port')}" for name in ("listener", "broadcaster")}
    said: object = None
    while True:
        taken, handed = listener.facts(), broadcaster.facts()
        facts: dict[str, str | int | float | bool | None] = {
            **ports,
            "senders": taken["senders"],
            "taken": taken["messages"],
            "unacknowledged": taken["unacknowledged"],
            "subscribers": handed["subscribers"],
            "handed_out": handed["messages"],
        }
        state = "waiting" if "waiting" in (listener.state, broadcaster.state) else "running"
        if said != (said := (state, facts)):
            status.set(state, **facts)
        await asyncio.sleep(_TELL)
