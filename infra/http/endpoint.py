"""The HTTP side of a service: an application at one port, as a part of the service's lifecycle."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from aiohttp import hdrs, web

from weir.infra import log
from weir.infra.config import Config
from weir.infra.http.limits import HttpLimits
from weir.infra.http.server import HttpServer
from weir.infra.prometheus import Reading
from weir.infra.runtime.health import PROBES, Health, HealthAnswer, index
from weir.infra.runtime.lifecycle import ServicePart

_log = log.get_logger("http")


class HttpEndpoint(ServicePart):
    """Serves `routes` and the `PROBES` of `health`, the service's, at the configured host and `port`, which `variable`
    sets. Running requests have `shutdown` seconds to end when it closes.
    """

    def __init__(
        self,
        config: Config,
        port: int,
        variable: str,
        routes: Iterable[web.AbstractRouteDef],
        health: Health,
        shutdown: float = 1.0,
    ) -> None:
        app = web.Application()
        app.add_routes(routes)
        add_operations(app, health)
        self._server = HttpServer(app, HttpLimits.of(config.http), shutdown=shutdown)
        self._place = config.host, port, variable

    async def open(self) -> None:
        """Listens. Raises PortTakenError."""
        await self._server.start(*self._place)
        _log.info("http.listening", address=f"http://{self._place[0]}:{self._server.port}")

    async def close(self) -> None:
        """Accepts no more, lets running requests end, and closes all connections."""
        await self._server.stop()

    def metrics(self) -> list[Reading]:
        """Connections, requests and unread answers."""
        return self._server.metrics()


def add_operations(app: web.Application, health: Health) -> None:
    """Adds the `PROBES` to the routes that are there, and `GET /`, which lists these."""
    paths = {
        f"{'GET' if route.method == hdrs.METH_ANY else route.method} {route.resource.canonical}"
        for route in app.router.routes()
        if route.resource is not None and route.method != hdrs.METH_HEAD
    }
    app.add_routes([web.get(path, _answering(probe, health)) for path, probe in PROBES.items()])
    app.add_routes([web.get("/", _answering(lambda health: index(health, paths), health))])


def _answering(
    probe: Callable[[Health], HealthAnswer], health: Health
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(_: web.Request) -> web.StreamResponse:
        status, body, headers = probe(health)
        return web.Response(status=status, body=body, headers=headers)

    return answer
