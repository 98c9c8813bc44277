"""The broadcast's services: `weir run listener`, `weir run broadcaster`, and both as one, `weir run broadcast`."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli.links import run

if TYPE_CHECKING:
    from infra.config import Config

#: What is under each port (`infra.config.PORTS`) of `weir run broadcast`: paths to send to, and paths to receive from.
ROUTES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "listener": (("/websocket", "/ws/manager"), ("/ws/broadcast", "/ws/broadcaster")),
    "broadcaster": ((), ("/websocket", "/ws/broadcast", "/ws/broadcaster")),
    "broadcast": (("/ws/manager",), ("/ws/broadcast", "/ws/broadcaster")),
}


def register(app: typer.Typer) -> None:
    """Adds to `weir run`."""
    run.command("listener")(listener)
    run.command("broadcaster")(broadcaster)
    run.command("broadcast")(broadcast)


_Name = Annotated[str | None, typer.Option(help="What `weir status` calls it; default: with its port.")]


def listener(name: _Name = None) -> None:
    """Take broadcast messages in over WebSockets, at WEIR_LISTENER_PORT."""
    from producers.listener import run

    _run("listener", run, name)


def broadcaster(name: _Name = None) -> None:
    """Hand broadcast messages out to subscribers over WebSockets, at WEIR_BROADCASTER_PORT."""
    from consumers.broadcaster import run

    _run("broadcaster", run, name)


def broadcast(name: _Name = None) -> None:
    """Both in one process, at WEIR_LISTENER_PORT, WEIR_BROADCASTER_PORT and WEIR_BROADCAST_PORT."""
    from infra.cli.broadcast_service import run

    _run("broadcast", run, name)


def _run(service: str, work: Callable[[Config, str | None], Coroutine[Any, Any, None]], name: str | None) -> None:
    import asyncio

    from infra import config, log
    from infra.signals import until_signal

    settings = config.load(os.environ)
    log.setup(settings, service)
    asyncio.run(until_signal(work(settings, name)))
