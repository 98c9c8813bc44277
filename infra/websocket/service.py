"""The WebSocket side of a service: its routes at one port or several, as a part of the service's lifecycle."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from weir.infra import log, prometheus
from weir.infra.config import Config
from weir.infra.connections.admission import ConnectionLimits
from weir.infra.errors import PortTakenError
from weir.infra.prometheus import Reading
from weir.infra.runtime.health import PROBES, Health, HealthAnswer, index
from weir.infra.runtime.lifecycle import ServiceLifecycle, ServicePart
from weir.infra.websocket.connection import Connection
from weir.infra.websocket.descriptors import fit
from weir.infra.websocket.handshake import Refusal
from weir.infra.websocket.limits import Limits
from weir.infra.websocket.server import Route, WebSocketServer

#: Seconds that Kafka has at the end for what was taken in, and then peers for the closing handshake. What is left of
#: the 5 s is for parts that have more to let go of (half a second each), and for the interpreter's own end.
FLUSH_TIMEOUT, CLOSE_TIMEOUT = 2.0, 1.0

_log = log.get_logger("websocket")


class WebSocketEndpoint(ServicePart):
    """Serves each port's routes at the configured host, and at each the `PROBES` of `health`, the service's.
    `close_reason` is what a connection is closed with, with code 1001.
    """

    def __init__(
        self,
        config: Config,
        routes: Mapping[int, Sequence[Route]],
        health: Health,
        close_reason: Callable[[Connection], str] = lambda connection: "",
    ) -> None:
        limits = fit(Limits.of(config.broadcast), len(routes))
        counts = ConnectionLimits(limits.connections, limits.per_address)
        pages = {path: partial(_page, probe, health) for path, probe in PROBES.items()}
        self._servers = {
            port: WebSocketServer(found, limits, counts, {"/": partial(_index, found, health), **pages})
            for port, found in routes.items()
        }
        self._host, self._reason = config.host, close_reason

    async def open(self) -> None:
        """Listens. Raises PortTakenError."""
        for port, server in self._servers.items():
            await server.start(self._host, port)
        _log.info("websocket.listening", host=self._host, ports=list(self._servers))

    async def close(self) -> None:
        """Takes no more connections, and closes those that there are."""

        def reason(connection: Connection) -> str:
            return self._reason(connection) or "the service is stopping"

        await asyncio.gather(*(server.stop(1001, reason, CLOSE_TIMEOUT) for server in self._servers.values()))

    def metrics(self) -> list[Reading]:
        """Connections, and those that were cut."""
        servers = self._servers.values()
        evicted = sum((server.evicted for server in servers), Counter[str]())
        return [
            Reading(prometheus.SOCKETS, sum(map(len, servers))),
            *(Reading(prometheus.EVICTED, number, (reason,)) for reason, number in sorted(evicted.items())),
        ]


class ProbeEndpoint(WebSocketEndpoint):
    """Serves the `PROBES` of a service without a port of its own, at WEIR_WORKER_PORT."""

    def __init__(self, config: Config, lifecycle: ServiceLifecycle) -> None:
        super().__init__(config, {config.worker.port: ()}, lifecycle)
        self._reached_at, self._lifecycle = config.reached_at, lifecycle

    async def open(self) -> None:
        """Listens, at any free port where another process has that one, and has the status say where."""
        [server] = self._servers.values()
        try:
            await super().open()
        except PortTakenError as e:
            _log.warning("probes.port_taken", error=str(e), variable="WEIR_WORKER_PORT")
            await server.start(self._host, 0)
        self._lifecycle.listens_at(f"http://{self._reached_at}:{server.port}")


def _page(probe: Callable[[Health], HealthAnswer], health: Health) -> Refusal:
    status, body, headers = probe(health)
    return Refusal(status, body.decode(), headers)


def _index(routes: Sequence[Route], health: Health) -> Refusal:
    return _page(lambda health: index(health, (f"WebSocket {route.path}" for route in routes)), health)
