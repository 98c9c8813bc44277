"""`weir run metrics`: metric events in, and what they come to out, under one port."""

from __future__ import annotations

import asyncio
import gc
import sys

from aiohttp import web

from weir.consumers.metrics.answers import MetricAnswers
from weir.consumers.metrics.revisions import TOPICS, MetricView
from weir.consumers.metrics.routes import AggregatesApi
from weir.infra.config import Config
from weir.infra.runtime.interpreter import SWITCH_S
from weir.producers.ingest.server import METRICS, Ingest
from weir.services.chains import chain_to
from weir.services.view import ViewService


async def serve(config: Config) -> None:
    """Serves `POST /metric-events`, `/ws/metric-events`, `GET /aggregates` and `GET /health` until cancelled.

    Raises PortTakenError, and WeirError where nothing can be written or read any more.
    """
    sys.setswitchinterval(SWITCH_S)
    view = MetricView(config, chain_to(config, TOPICS))
    answers = MetricAnswers(config, view)

    def facts() -> dict[str, int]:
        return answers.facts() | view.facts()

    async def work() -> None:
        gc.freeze()  # what is loaded stays: looking through it now and then would hold up everybody for 40 ms
        await answers.work()

    async def close() -> None:
        await asyncio.gather(answers.close(), view.close())

    ingest = Ingest(config, METRICS, positions=view.progress)
    service = ViewService(config, "metrics", config.metrics.port, ingest, view, "aggregates", facts)
    routes = [*AggregatesApi(view, answers).routes(), web.get("/health", service.health)]
    await service.run(routes, [work], close)
