"""`weir up`: everything on this machine, one foreground command."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from weir.cli._groups import RUN
from weir.cli._shared import run_service, say

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from weir.infra.config import Config

#: How often the table at a terminal is drawn, in seconds.
_DRAW_S = 0.5


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command(rich_help_panel=RUN)(up)


def up(
    only: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Run only these, for example kafka,postgres.")
    ] = None,
) -> None:
    """Run embedded servers and every service until Ctrl-C. Restarts processes that end."""
    run_service("weir", lambda config: _up(config, only))


async def _up(config: Config, only: str | None) -> None:
    await (_at_a_terminal if sys.stdout.isatty() and sys.stderr.isatty() else _with_all_logs)(config, only)


async def _with_all_logs(config: Config, only: str | None) -> None:
    """Runs everything where no person looks: what all of it logs is this process's log."""
    import asyncio

    from weir.cli.status import show
    from weir.infra import log
    from weir.infra.runtime.threads import in_daemon
    from weir.services.overview import overview
    from weir.services.up import up

    async with up(config, only, _to_stderr):
        found = await in_daemon(lambda: overview(config))
        show(found)
        print(f"Data and logs are in {found.home}. Ctrl-C ends everything.", flush=True)
        log.get_logger(__name__).info("weir.up", home=found.home)
        await asyncio.Event().wait()


def _to_stderr(lines: bytes) -> None:
    left = memoryview(lines)
    while left:
        left = left[os.write(sys.stderr.fileno(), left) :]


async def _at_a_terminal(config: Config, only: str | None) -> None:
    """Runs everything under a table with a line for each service; what they log is in files alone."""
    import asyncio
    import threading

    from weir.infra import log
    from weir.infra.runtime.private import private_home
    from weir.infra.runtime.threads import in_daemon
    from weir.infra.supervisor.logs import TextLog, log_file
    from weir.services.registry import wanted
    from weir.services.up import up

    names = wanted(config, only)
    private_home(config)
    log.setup(config, "weir", TextLog(log_file(config.home / "logs", "weir")))
    # In a thread of its own: a terminal that takes nothing holds up nothing else.
    ended = threading.Event()
    drawing = asyncio.ensure_future(in_daemon(lambda: _draw(config, names, ended)))
    try:
        async with up(config, only):
            await asyncio.Event().wait()
    finally:
        ended.set()
        await asyncio.wait([drawing], timeout=1.0)


def _draw(config: Config, names: Sequence[str], ended: threading.Event) -> None:
    from rich.console import Console
    from rich.live import Live

    from weir.cli.status import drawing
    from weir.infra.runtime.status import read_all
    from weir.services.overview import OverviewEntry, entry_of

    title = f"weir on {config.home}: `weir logs` shows what they log, Ctrl-C ends everything"
    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        while True:
            said = {status.name: entry_of(status) for status in read_all(config)}
            entries = {name: said.get(name, OverviewEntry("starting")) for name in names}
            live.update(drawing(entries, title), refresh=True)
            if ended.wait(_DRAW_S):
                break
    say("stopping")
