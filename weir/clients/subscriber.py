"""A subscriber to broadcast messages that lives through broken connections and goes on where it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from aiohttp import ClientSession, WSMsgType
from yarl import URL

from weir.clients.connection import ConnectionLostError, connect, ended
from weir.clients.subscription import Message, Subscription
from weir.infra.runtime.backoff import Backoff


async def messages(
    url: URL, subscription: Subscription, say: Callable[[str], None], backoff: Backoff | None = None
) -> AsyncGenerator[Message, None]:
    """Every message, for ever. `say` is told in words what becomes of the connection.

    Raises ConnectionLostError where there is no first connection, and WeirError where another would not help.
    """
    backoff = backoff or Backoff(first=0.1, cap=5.0)
    async with ClientSession() as session:
        while True:
            try:
                async for message in _connection(session, url, subscription, say):
                    backoff.reset()
                    yield message
            except ConnectionLostError as e:
                if subscription.position is None:
                    raise
                delay = backoff.next()
                say(f"{e}; again in {delay:.1f} s")
                await asyncio.sleep(delay)


async def _connection(
    session: ClientSession, url: URL, subscription: Subscription, say: Callable[[str], None]
) -> AsyncGenerator[Message, None]:
    """The messages of one connection. Raises ConnectionLostError at its end."""
    resumes = "after" in subscription.query()
    async with await connect(session, url, subscription.query()) as socket:
        first = True
        while True:
            incoming = await socket.receive()
            if incoming.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                raise ConnectionLostError(ended(socket, incoming.extra))
            text = incoming.data.encode() if isinstance(incoming.data, str) else incoming.data
            if not first:
                message = subscription.message(text)
                if message is not None:
                    yield message
                continue
            first = False
            if not subscription.hello(text):
                say(f"not recovered: messages are gone that were not received; on from {subscription.position}")
            elif resumes:
                say(f"connected; nothing was missed, on from {subscription.position}")
            else:
                say(f"connected, at {subscription.position}; Ctrl-C ends")
