"""`weir run metrics`: metric events in, and what they come to out, under one port."""

from __future__ import annotations

import asyncio
import gc
import sys

from aiohttp import web

from consumers.aggregates_api import AggregatesApi
from consumers.metric_answers import Answers
from consumers.metric_view import MetricView
from infra.cli.view_service import ViewService
from infra.config import Config
from infra.interpreter import SWITCH_S
from producers.ingest import METRICS, Ingest


async def serve(config: Config) -> None:
    """Serves `POST /metric-events`, `/ws/metric-events`, `GET /aggregates` and `GET /health` until cancelled.

    Raises PortTakenError, and WeirError where nothing can be written or read any more.
    """
    sys.setswitchinterval(SWITCH_S)
    view = MetricView(config)
    answers = Answers(config, view)

    def facts() -> dict[str, int]:
        return answers.facts() | view.facts()

    async def work() -> None:
        gc.freeze()  # what is loaded stays: looking through it now and then would hold up everybody for 40 ms
        await answers.work()

    async def close() -> None:
        await asyncio.gather(answers.close(), view.close())

    ingest = Ingest(config, METRICS)
    service = ViewService(config, "metrics", config.metrics_port, ingest, view, "aggregates", facts)
    routes = [*AggregatesApi(view, answers).routes(), web.get("/health", service.health)]
    await service.run(routes, [work], close)
