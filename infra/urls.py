"""Addresses that somebody has typed."""

from __future__ import annotations

from yarl import URL

from weir.infra.errors import ConfigError


def websocket_url(text: str, what: str = "address") -> URL:
    """The address of a WebSocket. Raises ConfigError for anything else, which says that it is no `what`.

    >>> websocket_url("ws://h:1/websocket?channel=news").query["channel"]
    'news'
    """
    try:
        url = URL(text)
    except ValueError as e:
        raise ConfigError(f"{text!r} is not a valid {what}: {e}") from e
    if url.scheme not in ("ws", "wss") or not url.host:
        raise ConfigError(f"{text!r} is not a valid {what}: it must start with ws:// or wss:// and name a host")
    return url
