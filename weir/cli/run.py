"""`weir run NAME`: one service alone. The sinks are those of the registry of consumers; the others are listed here."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from weir.cli._groups import RUN, CommandGroup, without_types
from weir.cli._shared import run_service

_Name = Annotated[str | None, typer.Option(help="Its name in `weir status`; default: the service with its port.")]


class RunGroup(CommandGroup):
    """The services listed in this module, and a command for every sink, found when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        from weir.consumers.registry import SINKS

        return [*super().list_commands(ctx), *SINKS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if (command := super().get_command(ctx, cmd_name)) is not None:
            return command
        from weir.consumers.registry import SINKS

        if cmd_name not in SINKS:
            return None
        told = SINKS.description(cmd_name)
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        single.command(cmd_name, help=f"{told[0].upper()}{told[1:]}.")(lambda: _store(cmd_name))
        command = typer.main.get_command(single)
        without_types(command, ctx)
        return command


run = typer.Typer(help="Run a single service of weir.", no_args_is_help=True, cls=RunGroup)


def register(app: typer.Typer) -> None:
    """Adds `weir run`."""
    app.add_typer(run, name="run", rich_help_panel=RUN)


@run.command()
def api() -> None:
    """Serve GET /links, GET /tables, GET /analytics and GET /health, at WEIR_API_PORT."""
    from weir.services.api import run

    run_service("api", run)


@run.command()
def metrics() -> None:
    """Serve POST /metric-events, /ws/metric-events, GET /aggregates and GET /health, at WEIR_METRICS_PORT."""
    from weir.services.metrics import serve

    run_service("metrics", serve)


@run.command()
def monitoring() -> None:
    """Serve POST /events, GET /clients and GET /health, at WEIR_MONITORING_PORT."""
    from weir.services.monitoring import serve

    run_service("monitoring", serve)


@run.command()
def listener(name: _Name = None) -> None:
    """Take broadcast messages in over WebSockets, at WEIR_LISTENER_PORT."""
    from weir.producers.broadcast.server import run

    run_service("listener", lambda config: run(config, name))


@run.command()
def broadcaster(name: _Name = None) -> None:
    """Hand broadcast messages out to subscribers over WebSockets, at WEIR_BROADCASTER_PORT."""
    from weir.consumers.broadcast.server import run

    run_service("broadcaster", lambda config: run(config, name))


@run.command()
def broadcast(name: _Name = None) -> None:
    """Serve both in one process, at WEIR_LISTENER_PORT, WEIR_BROADCASTER_PORT and WEIR_BROADCAST_PORT."""
    from weir.services.broadcast import run

    run_service("broadcast", lambda config: run(config, name))


def _store(name: str) -> None:
    from weir.services.sinks import store

    run_service(name, lambda config: store(config, name))
