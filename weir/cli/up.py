"""`weir up`: everything on this machine, one foreground command."""

from __future__ import annotations

import atexit
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from weir.cli._shared import run_service, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.live import Live

    from weir.infra.config import Config

#: How often the table at a terminal is drawn, in seconds.
_DRAW_S = 0.5


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command()(up)


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

    async with up(config, only, lambda lines: os.write(sys.stderr.fileno(), lines)):
        found = await in_daemon(lambda: overview(config))
        show(found)
        print(f"Data and logs are in {found.home}. Ctrl-C ends everything.", flush=True)
        log.get_logger(__name__).info("weir.up", home=found.home)
        await asyncio.Event().wait()


async def _at_a_terminal(config: Config, only: str | None) -> None:
    """Runs everything under a table with a line for each service; what they log is in files alone."""
    import asyncio

    from rich.console import Console
    from rich.live import Live

    from weir.infra import log
    from weir.infra.runtime.private import private_folder
    from weir.services.registry import wanted
    from weir.services.up import up

    names = wanted(config, only)
    logs = config.home / "logs"
    private_folder(config.home)
    logs.mkdir(exist_ok=True)
    stream = (logs / "weir.log").open("a")
    atexit.register(stream.close)  # the last line is logged after this
    log.setup(config, "weir", stream)
    with Live(console=Console(), auto_refresh=False) as live:
        drawing = asyncio.create_task(_draw(live, config, names))
        try:
            async with up(config, only):
                await asyncio.Event().wait()
        finally:
            drawing.cancel()
            say("stopping")


async def _draw(live: Live, config: Config, names: Sequence[str]) -> None:
    import asyncio

    from weir.cli.status import table
    from weir.infra.runtime.status import read_all
    from weir.services.overview import OverviewEntry, entry_of

    title = f"weir on {config.home}: `weir logs` shows what they log, Ctrl-C ends everything"
    while True:
        said = {status.name: entry_of(status) for status in read_all(config)}
        live.update(
            table({name: said.get(name, OverviewEntry("starting")) for name in names}, title).drawing, refresh=True
        )
        await asyncio.sleep(_DRAW_S)
