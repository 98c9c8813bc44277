"""`weir links`, and the services on its way out: `weir run link-store`, `weir run api`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from consumers.link_queries import Page
    from consumers.link_requests import Range
    from consumers.sink import Sink
    from infra.config import Config

#: Seconds that a service has to end in order; what it has not stored by then it stores when it runs again.
_GRACE = 3.0


#: `weir run`; other modules add to it.
run = typer.Typer(help="Run one service of weir's alone.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Adds `weir links` and `weir run`."""
    run.command("link-store")(link_store)
    run.command("api")(api)
    app.add_typer(run, name="run")
    app.command("links")(links)


def links(
    start: Annotated[str | None, typer.Option("--from", help="Windows that start at or after this, RFC 3339.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Windows that start before this, RFC 3339.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many windows.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON array.")] = False,
) -> None:
    """Show closed windows by time range: by default the hour before --to, which by default is now.

    Where the output is no terminal, each link is a line of its own: window start, source, destination and count,
    separated by tabs. A window without links is only in the table and in --json.
    """
    import asyncio
    import time

    import msgspec

    from consumers.link_requests import time_range
    from infra import config
    from schemas.times import to_rfc3339

    times = time_range(start, end, time.time_ns() // 1_000_000)
    page = asyncio.run(_page(config.load(os.environ), times, limit))
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(page.windows), indent=2).decode())
    elif not page.windows:
        typer.echo(f"no closed windows from {to_rfc3339(times.start)} to {to_rfc3339(times.end)}", err=True)
    elif sys.stdout.isatty():
        _show(page)
    else:
        _write_lines(page)
    if page.next is not None:
        typer.echo(f"weir: there are more: --from {to_rfc3339(page.next)} --to {to_rfc3339(times.end)}", err=True)


def _write_lines(page: Page) -> None:
    for summary in page.windows:
        for link in summary.links:  # an id holds no tab and no end of line: see schemas.links
            print(summary.window.start, link.source, link.destination, link.count, sep="\t")


def _show(page: Page) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    view = Table(box=None)
    for header in ("window", "source", "destination"):
        view.add_column(header, overflow="fold")
    view.add_column("calls", justify="right")
    for summary in page.windows:
        if not summary.links:
            view.add_row(summary.window.start, "none", "", "0", style="dim")
        for number, link in enumerate(summary.links):
            start = summary.window.start if number == 0 else ""
            view.add_row(start, escape(link.source), escape(link.destination), f"{link.count:,}")
    Console().print(view)


async def _page(config: Config, times: Range, limit: int) -> Page:
    import psycopg

    from consumers.link_queries import closed_windows
    from infra import postgres

    with postgres.translated():
        address = postgres.conninfo(config, "weir-links")
        async with await psycopg.AsyncConnection.connect(address, autocommit=True) as connection:
            return await closed_windows(connection, times.start, times.end, limit)


def link_store() -> None:
    """Store link counts and closed windows in Postgres."""
    import asyncio

    from consumers.link_store import NAME, link_store
    from infra import config, log
    from infra.signals import until_signal

    settings = config.load(os.environ)
    log.setup(settings, NAME)
    asyncio.run(until_signal(store(link_store(settings))))


async def store(sink: Sink) -> None:
    """Runs a sink in a thread of its own, and has it stop where this is cancelled."""
    import asyncio
    import threading

    from infra.interpreter import for_many_records
    from infra.threads import in_daemon

    for_many_records()
    stop = threading.Event()
    work = asyncio.ensure_future(in_daemon(lambda: sink.run(stop)))
    try:
        await asyncio.shield(work)
    finally:
        stop.set()
        await asyncio.wait([work], timeout=_GRACE)


def api() -> None:
    """Serve GET /links, GET /tables, GET /analytics and GET /health."""
    import asyncio

    from consumers.api import Api
    from infra import config, log
    from infra.signals import until_signal

    settings = config.load(os.environ)
    log.setup(settings, "api")
    asyncio.run(until_signal(Api(settings).run()))
