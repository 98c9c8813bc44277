"""The services of metrics: `weir run metrics`, `weir run metric-store`."""

from __future__ import annotations

import os

import typer

from infra.cli.links import run


def register(app: typer.Typer) -> None:
    """Adds to `weir run`."""
    run.command("metrics")(metrics)
    run.command("metric-store")(metric_store)


def metrics() -> None:
    """Serve POST /metric-events, /ws/metric-events, GET /aggregates and GET /health, at WEIR_METRICS_PORT."""
    import asyncio

    from infra import config, log
    from infra.cli.metrics_service import serve
    from infra.signals import until_signal

    settings = config.load(os.environ)
    log.setup(settings, "metrics")
    asyncio.run(until_signal(serve(settings)))


def metric_store() -> None:
    """Store what metrics come to per type and minute in Postgres."""
    import asyncio

    from consumers.metric_store import NAME, metric_store
    from infra import config, log
    from infra.cli.links import store
    from infra.signals import until_signal

    settings = config.load(os.environ)
    log.setup(settings, NAME)
    asyncio.run(until_signal(store(metric_store(settings))))
