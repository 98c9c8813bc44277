"""`weir up`: everything on this machine, one foreground command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from weir.cli._shared import run_service

if TYPE_CHECKING:
    from weir.infra.config import Config


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
    import asyncio

    from rich.console import Console

    from weir.cli.status import listing
    from weir.infra import log
    from weir.infra.runtime.threads import in_daemon
    from weir.services.overview import overview
    from weir.services.up import up

    async with up(config, only):
        found = await in_daemon(lambda: overview(config))
        listing(found).show()
        Console(soft_wrap=True).print(f"Data and logs are in {found.home}. Ctrl-C ends everything.")
        log.get_logger(__name__).info("weir.up", home=found.home)
        await asyncio.Event().wait()
