"""The client's side of weir's broadcast WebSockets: where they are, a connection, and what went wrong with it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import BasicAuth, ClientError, ClientSession, ClientWebSocketResponse, ClientWSTimeout
from aiohttp import ClientConnectorError as _NotConnected
from aiohttp import WSServerHandshakeError as _NotUpgraded
from yarl import URL

from weir.infra.config import Config
from weir.infra.errors import RetryableError, WeirError

CONNECT_TIMEOUT = 10.0
#: Seconds that the other side has to answer a close.
CLOSE_TIMEOUT = 5.0
#: A peer that does not answer a ping for half of this many seconds is gone.
HEARTBEAT = 20.0
#: The longest message in an envelope: each byte of it may be six there.
MAX_MESSAGE = 8 << 20
#: What a status means to whoever typed the command; what may go away by itself is retried.
_MEANINGS = {
    400: "a field of the address is wrong",
    401: "user or password is wrong",
    403: "this client is not welcome",
    404: "unknown path",
    429: "too many connections from this address",
    503: "no room or no Kafka right now",
}
_RETRYABLE = {408, 429, 500, 502, 503, 504}


class ConnectionLostError(RetryableError):
    """The connection could not be had, or ended."""


def address(config: Config, port: int) -> str:
    """Where one of this weir's own endpoints is for clients on this machine."""
    host = "127.0.0.1" if config.host in ("0.0.0.0", "::", "") else config.host
    return f"ws://{f'[{host}]' if ':' in host else host}:{port}/websocket"


async def connect(
    session: ClientSession, url: URL, query: Mapping[str, str], auth: BasicAuth | None = None
) -> ClientWebSocketResponse:
    """An open WebSocket; what `query` says replaces what the address does. A user in the address is sent, too.

    Raises ConnectionLostError where another try may help, and WeirError where not.
    """
    if "after" in query:  # one says where to begin, and they exclude each other
        url = url.without_query_params("last")
    wanted = url.update_query(query)
    shown = url.with_user(None).with_query(None)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            return await session.ws_connect(
                wanted,
                auth=auth,
                max_msg_size=MAX_MESSAGE,
                heartbeat=HEARTBEAT,
                timeout=ClientWSTimeout(ws_close=CLOSE_TIMEOUT),
            )
    except _NotUpgraded as e:
        error = f"{shown} refused with HTTP {e.status}: {_MEANINGS.get(e.status, e.message)}"
        raise (ConnectionLostError if e.status in _RETRYABLE else WeirError)(error) from e
    except _NotConnected as e:
        refused = isinstance(e.os_error, ConnectionRefusedError)
        why = "nobody listens there" if refused else e.os_error.strerror or e.os_error
        raise ConnectionLostError(f"{shown} cannot be reached: {why}") from e
    except TimeoutError as e:
        raise ConnectionLostError(f"{shown} did not answer within {CONNECT_TIMEOUT:.0f} s") from e
    except (ClientError, OSError) as e:
        raise ConnectionLostError(f"{shown} cannot be reached: {e}") from e


def ended(socket: ClientWebSocketResponse, reason: str | None) -> str:
    """Why a connection has ended, in words."""
    if socket.close_code in (None, 1006):
        return "the connection broke"
    return f"the connection was closed with code {socket.close_code}{f': {reason}' if reason else ''}"
