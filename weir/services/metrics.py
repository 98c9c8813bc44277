"""`weir run metrics`: metric events in, and what they come to out, under one port."""

from __future__ import annotations

import gc
import sys

from weir.consumers.metrics.answers import MetricAnswers
from weir.consumers.metrics.revisions import TOPICS, MetricView
from weir.consumers.metrics.routes import AggregatesApi
from weir.infra.config import Config
from weir.infra.runtime.interpreter import SWITCH_S
from weir.infra.runtime.lifecycle import BackgroundWork
from weir.producers.ingest.server import METRICS, Ingest
from weir.services import view as view_service
from weir.services.chains import chain_to


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

    ingest = Ingest(config, METRICS, positions=view.progress)
    routes = AggregatesApi(view, answers).routes()
    port = config.metrics.port
    await view_service.serve(
        config, "metrics", port, ingest, view, routes, "aggregates", facts, BackgroundWork(work, answers.close)
    )  # fmt: skip
