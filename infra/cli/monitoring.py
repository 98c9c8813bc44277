"""The service of monitored clients: `weir run monitoring`."""

from __future__ import annotations

import os

import typer

from infra.cli.links import run


def register(app: typer.Typer) -> None:
    """Adds to `weir run`."""
    run.command("monitoring")(monitoring)


def monitoring() -> None:
    """Serve POST /events, GET /clients and GET /health, at WEIR_MONITORING_PORT."""
    import asyncio

    from infra import config, log
    from infra.cli.monitoring_service import serve
    from infra.signals import until_signal

    settings = config.load(os.environ)
    log.setup(settings, "monitoring")
    asyncio.run(until_signal(serve(settings)))
