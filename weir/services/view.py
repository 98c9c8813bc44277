"""An intake and a view in memory under one port: how `weir run metrics` and `weir run monitoring` live."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web

from weir.consumers.views.view import TopicView
from weir.infra.config import Config
from weir.infra.http.endpoint import HttpEndpoint
from weir.infra.http.responses import json_response
from weir.infra.retry_after import RETRY_SOON
from weir.infra.runtime.lifecycle import Facts, ServiceLifecycle, ServicePart
from weir.producers.ingest.server import Ingest


async def serve(
    config: Config,
    service: str,
    port: int,
    ingest: Ingest,
    view: TopicView[Any],
    routes: Iterable[web.RouteDef],
    shown: str,
    facts: Callable[[], dict[str, int]],
    *others: ServicePart,
) -> None:
    """Serves an intake's routes, those of a view and `GET /health` at `port` until cancelled, however long Kafka is
    away: 503 says so. `facts` are the view's, which `/health` shows as `shown`; `others` are parts that requests need.

    Raises PortTakenError, and WeirError where nothing can be written or read any more. What was taken in by the end is
    flushed and answered, within 5 s.
    """

    def told() -> Facts:
        lag = view.lag()
        return ingest.facts() | facts() | {"behind_records": lag.records, "behind_ms": lag.ms}

    async def health(_: web.Request) -> web.Response:
        state = lifecycle.state
        body = {
            "status": "ok" if state == "running" else state,
            "lag": view.lag(),
            "ingest": ingest.facts(),
            shown: facts(),
        }
        return json_response(200, body) if state == "running" else json_response(503, body, RETRY_SOON)

    lifecycle = ServiceLifecycle(config, service, facts=told, address=f"http://{config.host}:{port}")
    every = [*ingest.routes(), *routes, web.get("/health", health)]
    endpoint = HttpEndpoint(config, port, f"WEIR_{service.upper()}_PORT", every, lifecycle)
    await lifecycle.run(ingest, endpoint, *others, view)
