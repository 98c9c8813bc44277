"""`weir up`: everything on this machine, one foreground command."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from infra.config import Config


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command()(up)


def up(
    only: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Run only these, for example kafka,postgres.")
    ] = None,
) -> None:
    """Run embedded servers and every service, until Ctrl-C. What dies is started again."""
    import asyncio

    from infra import config as configuration
    from infra import log
    from infra.signals import until_signal

    config = configuration.load(os.environ)
    log.setup(config, "weir")
    asyncio.run(until_signal(_up(config, only)))


async def _up(config: Config, only: str | None) -> None:
    import asyncio

    from rich.console import Console

    from infra import log
    from infra.cli.status import table
    from infra.overview import overview
    from infra.threads import in_daemon
    from infra.up import up

    async with up(config, only):
        found = await in_daemon(lambda: overview(config))
        Console().print(table(found))
        Console(soft_wrap=True).print(f"Data and logs are in {found.home}. Ctrl-C ends everything.")
        log.get(__name__).info("weir.up", home=found.home)
        await asyncio.Event().wait()
