"""`weir links`: the counts of closed windows."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from weir.cli._groups import LOOK
from weir.cli._shared import Listing, print_json, say

if TYPE_CHECKING:
    from weir.consumers.links.queries import WindowPage
    from weir.consumers.links.requests import Range
    from weir.infra.config import Config


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command("links", rich_help_panel=LOOK)(links)


def links(
    start: Annotated[str | None, typer.Option("--from", help="Windows that start at or after this, RFC 3339.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Windows that start before this, RFC 3339.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Show at most this many windows.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON array.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Begin with those that close from now on, and go on until Ctrl-C.")
    ] = False,
) -> None:
    """Show closed windows by time range: by default the hour before --to, which by default is now.

    Unless the output is a terminal, each link is a line: window start, source, destination and count,
    separated by tabs. A window without links is only in the table and in --json.
    """
    import asyncio

    from weir.consumers.links.requests import time_range
    from weir.infra import config
    from weir.infra.errors import ConfigError
    from weir.infra.runtime.clock import wall_clock
    from weir.infra.runtime.signals import until_signal
    from weir.schemas.times import to_rfc3339

    if follow:
        if start or end or as_json:
            raise ConfigError("--follow goes without --from, --to and --json")
        asyncio.run(until_signal(_follow(config.load(os.environ), wall_clock())))
        return
    times = time_range(start, end, wall_clock())
    page = asyncio.run(_page(config.load(os.environ), times, limit))
    if as_json:
        print_json(page.windows)
    elif not page.windows:
        typer.echo(f"no closed windows from {to_rfc3339(times.start)} to {to_rfc3339(times.end)}", err=True)
    elif sys.stdout.isatty():
        _show(page)
    else:
        _write_lines(page)
    if page.next is not None:
        say(f"there are more: --from {to_rfc3339(page.next)} --to {to_rfc3339(times.end)}")


def _write_lines(page: WindowPage) -> None:
    for summary in page.windows:
        for link in summary.links:  # an id holds no tab and no end of line: see weir.schemas.links
            print(summary.window.start, link.source, link.destination, link.count, sep="\t", flush=True)


def _show(page: WindowPage) -> None:
    headers = ("window", "source", "destination")
    listing = Listing(*headers, "calls", fold=headers, right=["calls"])
    for summary in page.windows:
        if not summary.links:
            listing.add(summary.window.start, "none", "", "0", style="dim")
        for number, link in enumerate(summary.links):
            start = summary.window.start if number == 0 else ""
            listing.add(start, link.source, link.destination, f"{link.count:,}")
    listing.show()


async def _page(config: Config, times: Range, limit: int) -> WindowPage:
    import psycopg

    from weir.consumers.links.queries import closed_windows
    from weir.infra import postgres

    address = postgres.conninfo(config, "weir-links")
    with postgres.connecting(config):
        connection = await psycopg.AsyncConnection.connect(address, autocommit=True)
    async with connection:
        with postgres.translated():
            return await closed_windows(connection, times.start, times.end, limit)


async def _follow(config: Config, now: int) -> None:
    """Writes the links of each window that closes from `now` (epoch ms) on, as lines; waits while Postgres is away."""
    import asyncio

    from weir.consumers.links.requests import Range
    from weir.infra.runtime.clock import wall_clock
    from weir.infra.runtime.patience import until_answered
    from weir.schemas.times import from_rfc3339

    window = config.links.window
    start = (now // window - 1) * window  # the last one that may not be closed yet

    async def page() -> WindowPage:
        return await _page(config, Range(start, wall_clock() + config.max_skew + window), 100)

    while True:
        found = await until_answered(page, lambda error, _, retry_in_s: say(f"{error}; retrying in {retry_in_s} s"))
        _write_lines(found)
        if found.windows:
            start = from_rfc3339(found.windows[-1].window.end)
        await asyncio.sleep(1)
