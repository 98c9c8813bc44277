"""`weir subscribe`: broadcast messages as they come, for a person or for a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from yarl import URL

    from infra.subscription import Subscription

T = TypeVar("T")


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command()(subscribe)


def checked(check: Callable[[], T]) -> T:
    """What `check` gives; its ValueError as an error of weir's."""
    from schemas.errors import WeirError

    try:
        return check()
    except ValueError as e:
        raise WeirError(str(e)) from e


def subscribe(
    url: Annotated[
        str | None, typer.Argument(help="ws:// or wss:// address of a broadcaster; not given: this weir's.")
    ] = None,
    channel: Annotated[str | None, typer.Option(metavar="NAME", help="Only this channel; not given: all.")] = None,
    last: Annotated[
        int | None, typer.Option(min=0, max=10_000, metavar="N", help="Begin with the last N messages.")
    ] = None,
    after: Annotated[str | None, typer.Option(metavar="POSITION", help="Go on from where another one ended.")] = None,
    count: Annotated[int | None, typer.Option(min=0, metavar="N", help="End after N messages.")] = None,
    json: Annotated[
        bool, typer.Option("--json", "--envelope", help="One JSON object a line: position, channel and message.")
    ] = False,
) -> None:
    """Print broadcast messages as they come, one a line, until Ctrl-C or `--count`.

    A connection that breaks is opened again, and goes on where it was: nothing is missed and nothing comes twice. Where
    messages are gone by then, standard error says so.
    """
    import asyncio

    from infra.broadcast_client import address
    from infra.config import load
    from infra.signals import until_signal
    from infra.subscription import Subscription
    from infra.urls import websocket_url
    from schemas.broadcast import check_channel
    from schemas.errors import WeirError

    if after is not None and last is not None:
        raise WeirError("say where to begin: --after or --last, not both")
    if channel is not None:
        checked(lambda: check_channel(channel))
    config = load(os.environ)
    target = websocket_url(url or address(config, config.broadcaster_port))
    subscription = checked(lambda: Subscription(channel, after, last))
    printer = _Printer(json, count)
    try:
        asyncio.run(until_signal(_print(target, subscription, printer)))
    except BrokenPipeError:
        # Whoever read has had enough; the interpreter must not try to flush into the pipe again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    if not printer.done:
        if subscription.position is not None:
            _say(f"--after {subscription.position} goes on from here")
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

    from infra.subscriber import messages

    if printer.done:
        return
    async with aclosing(messages(url, subscription, _say)) as found:
        async for message in found:
            printer.print(*message)
            if printer.done:
                return


def _say(text: str) -> None:
    print(f"weir: {text}", file=sys.stderr, flush=True)
