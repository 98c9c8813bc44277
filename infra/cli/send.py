"""`weir send`: lines of standard input as broadcast messages."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import BasicAuth
    from yarl import URL

    from infra.config import Config
    from schemas.broadcast import Refused

#: So much is read at once, and the longest line that is taken, in bytes.
CHUNK, MAX_LINE = 1 << 16, 16 << 20


def register(app: typer.Typer) -> None:
    """Adds this module's subcommands."""
    app.command()(send)


def send(
    url: Annotated[
        str | None, typer.Argument(help="ws:// or wss:// address of a listener; not given: this weir's.")
    ] = None,
    channel: Annotated[
        str | None, typer.Option(metavar="NAME", help="The channel; not given: the default one.")
    ] = None,
    ack: Annotated[bool, typer.Option("--ack", help="Wait until Kafka has every message, and say how many.")] = False,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Default: WEIR_BROADCAST_USER.")] = None,
    password: Annotated[str | None, typer.Option(metavar="TEXT", help="Default: WEIR_BROADCAST_PASSWORD.")] = None,
) -> None:
    """Send each line of standard input as a message to everyone who subscribes.

    A line that is no UTF-8 is sent as a binary message. With --ack the exit code is 0 only where every message was
    acknowledged, that is, written by Kafka; without, where all were handed over.
    """
    import asyncio

    from infra.broadcast_client import address
    from infra.cli.subscribe import checked
    from infra.config import load
    from infra.sender import Sender
    from infra.signals import until_signal
    from infra.urls import websocket_url
    from schemas.broadcast import check_channel

    config = load(os.environ)
    if channel is not None:
        checked(lambda: check_channel(channel))
    target, auth = _auth(config, websocket_url(url or address(config, config.listener_port)), user, password)
    if sys.stdin.isatty():
        print("weir: every line is a message; Ctrl-D ends", file=sys.stderr)
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

    names = (user, target.user, config.broadcast_user)
    passwords = (password, target.password, config.broadcast_password)
    name, secret = (next(value for value in values if value is not None) for values in (names, passwords))
    return target.with_user(None), BasicAuth(name, secret, encoding="utf-8")


def _say_refused(refused: Refused) -> None:
    print(f"weir: message {refused.message} was refused: {refused.error}", file=sys.stderr)


async def lines() -> AsyncIterator[bytes]:
    """The lines of standard input without their ends, as they come. Raises WeirError for one that is too long."""
    from infra.threads import in_daemon
    from schemas.errors import WeirError

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
