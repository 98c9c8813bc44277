"""`weir logs`: what servers and services have logged, and what they log now."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from weir.cli._groups import LOOK
from weir.cli._shared import service_names, until_closed


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command(rich_help_panel=LOOK)(logs)


def logs(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A server or service; all of them without.", show_default=False, autocompletion=service_names
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is logged from now on.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, metavar="N", help="Begin with so many lines.")] = 100,
) -> None:
    """Show the logs of servers and services that `weir up` runs on this machine."""
    import sys

    from weir.infra import config as configuration
    from weir.infra.supervisor.log_reader import LogReader

    reader = LogReader(configuration.load(os.environ).home / "logs", name)
    with until_closed():
        for line in reader.lines(lines, follow):
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
