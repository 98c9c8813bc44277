"""The broadcast's services: `weir run listener`, `weir run broadcaster`, and both as one, `weir run broadcast`."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import typer

from infra.cli.links import run

if TYPE_CHECKING:
    from infra.config import Config


def register(app: typer.Typer) -> None:
    """Adds to `weir run`."""
    run.command("listener")(listener)


def listener() -> None:
    """Take broadcast messages in over WebSockets, at WEIR_LISTENER_PORT."""
    from producers.listener import run

    _run("listener", run)


def _run(name: str, work: Callable[[Config], Coroutine[Any, Any, None]]) -> None:
    import asyncio

    from infra import config, log
    from infra.signals import until_signal

    settings = config.load(os.environ)
    log.setup(settings, name)
    asyncio.run(until_signal(work(settings)))
