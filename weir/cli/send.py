"""`weir send`: lines of standard input as broadcast messages."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from weir.cli._groups import RECORDS
from weir.cli._shared import say

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import BasicAuth
    from yarl import URL

    from weir.infra.config import Config
    from weir.schemas.broadcast import Refused

#: So much is read at once, and the longest line that is taken, in bytes.
CHUNK, MAX_LINE = 1 << 16, 16 << 20


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command(rich_help_panel=RECORDS)(send)


def send(
    url: Annotated[
        str | None, typer.Argument(help="ws:// or wss:// address of a listener; not given: this weir's.")
    ] = None,
    channel: Annotated[
        str | None, typer.Option(metavar="NAME", help="The channel; default: the default channel.")
    ] = None,
    ack: Annotated[bool, typer.Option("--ack", help="Wait until Kafka has every message, and print how many.")] = False,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Default: WEIR_BROADCAST_USER.")] = None,
    password: Annotated[str | None, typer.Option(metavar="TEXT", help="Default: WEIR_BROADCAST_PASSWORD.")] = None,
) -> None:
    """Send each line of standard input as a message to everyone who subscribes.

    A line that is not UTF-8 is sent as a binary message. The exit code is 0 if every message was handed over, and with
    --ack only if every message was acknowledged, that is, written by Kafka.
    """
    import asyncio

    from weir.cli.subscribe import checked
    from weir.clients.connection import address
    from weir.clients.sender import Sender
    from weir.infra.config import load
    from weir.infra.runtime.signals import until_signal
    from weir.infra.urls import websocket_url
    from weir.schemas.broadcast import check_channel

    config = load(os.environ)
    if channel is not None:
        checked(lambda: check_channel(channel))
    target, auth = _auth(config, websocket_url(url or address(config, config.broadcast.listener_port)), user, password)
    if sys.stdin.isatty():
        say("every line is a message; Ctrl-D ends")
    sender = Sender(target, channel, auth, ack, _say_refused)
    try:
        asyncio.run(until_signal(sender.run(lines())))
    finally:
        if sender.sent or sender.finished:
            print(f"acknowledged {sender.answers.count} of {sender.sent}" if ack else f"sent {sender.sent}")
    if not sender.finished:
        raise typer.Exit(130)
    if ack and sender.answers.count < sender.sent:
        raise typer.Exit(1)


def _auth(config: Config, target: URL, user: str | None, password: str | None) -> tuple[URL, BasicAuth]:
    """The address without what it says of a user, and who it is: as given, or as in the address, or as configured."""
    from aiohttp import BasicAuth

    names = (user, target.user, config.broadcast.user)
    passwords = (password, target.password, config.broadcast.password)
    name, secret = (next(value for value in values if value is not None) for values in (names, passwords))
    return target.with_user(None), BasicAuth(name, secret, encoding="utf-8")


def _say_refused(refused: Refused) -> None:
    say(f"message {refused.message} was refused: {refused.error}")


async def lines() -> AsyncIterator[bytes]:
    """The lines of standard input without their ends, as they come. Raises WeirError for one that is too long."""
    from weir.infra.runtime.threads import in_daemon
    from weir.schemas.errors import WeirError

    # Not through sys.stdin: a thread that waits in there keeps a lock that the interpreter wants at its end.
    descriptor, rest = sys.stdin.fileno(), b""
    while chunk := await in_daemon(lambda: os.read(descriptor, CHUNK)):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
        if len(rest) > MAX_LINE:
            raise WeirError(f"a line is longer than {MAX_LINE:,} bytes")
    if rest:
        yield rest
