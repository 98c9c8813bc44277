"""`weir subscribe`: broadcast messages as they come, for a person or for a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from weir.cli._groups import RECORDS
from weir.cli._shared import say, until_closed

if TYPE_CHECKING:
    from yarl import URL

    from weir.clients.subscription import Subscription

T = TypeVar("T")


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command(rich_help_panel=RECORDS)(subscribe)


def checked(check: Callable[[], T]) -> T:
    """Calls `check` and returns its result; turns a ValueError into a WeirError with the same text."""
    from weir.schemas.errors import WeirError

    try:
        return check()
    except ValueError as e:
        raise WeirError(str(e)) from e


def subscribe(
    url: Annotated[
        str | None, typer.Argument(help="ws:// or wss:// address of a broadcaster; not given: this weir's.")
    ] = None,
    channel: Annotated[str | None, typer.Option(metavar="NAME", help="Only this channel; default: all.")] = None,
    last: Annotated[
        int | None, typer.Option(min=0, max=10_000, metavar="N", help="Begin with the last N messages.")
    ] = None,
    after: Annotated[
        str | None, typer.Option(metavar="POSITION", help="Continue after this position, where an earlier run ended.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=0, metavar="N", help="End after N messages.")] = None,
    json: Annotated[
        bool, typer.Option("--json", "--envelope", help="One JSON object a line: position, channel and message.")
    ] = False,
) -> None:
    """Print broadcast messages as they come, one a line, until Ctrl-C or `--count`.

    Reconnects when the connection breaks, and continues at the same position: no message is missed or repeated.
    Standard error says so if messages were deleted meanwhile.
    """
    import asyncio

    from weir.clients.connection import address
    from weir.clients.subscription import Subscription
    from weir.infra.config import load
    from weir.infra.runtime.signals import until_signal
    from weir.infra.urls import websocket_url
    from weir.schemas.broadcast import check_channel
    from weir.schemas.errors import WeirError

    if after is not None and last is not None:
        raise WeirError("--after and --last cannot be used together")
    if channel is not None:
        checked(lambda: check_channel(channel))
    config = load(os.environ)
    target = websocket_url(url or address(config, config.broadcast.broadcaster_port))
    subscription = checked(lambda: Subscription(channel, after, last))
    printer = _Printer(json, count)
    with until_closed():
        asyncio.run(until_signal(_print(target, subscription, printer)))
        if printer.done:
            return
        if subscription.position is not None:
            say(f"--after {subscription.position} goes on from here")
        raise typer.Exit(130)


class _Printer:
    """Writes messages to standard output; `done` once there were as many as wanted."""

    def __init__(self, json: bool, count: int | None) -> None:
        self._json, self._left = json, count

    @property
    def done(self) -> bool:
        return self._left == 0

    def print(self, data: bytes, envelope: bytes) -> None:
        sys.stdout.buffer.write((envelope if self._json else data) + b"\n")
        sys.stdout.buffer.flush()
        if self._left is not None:
            self._left -= 1


async def _print(url: URL, subscription: Subscription, printer: _Printer) -> None:
    from contextlib import aclosing

    from weir.clients.subscriber import messages

    if printer.done:
        return
    async with aclosing(messages(url, subscription, say)) as found:
        async for message in found:
            printer.print(*message)
            if printer.done:
                return
