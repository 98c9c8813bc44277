"""The WebSocket server of weir's own endpoints (RFC 6455); docs/adr/0011-websocket-server.md says why it is its own.

    WebSocketServer([Route("/websocket", make)], limits).start(host, port)

`make` gets each Request and returns a Handler, or a Refusal that becomes the HTTP response.
"""

from infra.websocket.connection import Connection
from infra.websocket.handler import Handler
from infra.websocket.handshake import Refusal, Request
from infra.websocket.limits import Limits
from infra.websocket.server import Held, Route, WebSocketServer

__all__ = ["Connection", "Handler", "Held", "Limits", "Refusal", "Request", "Route", "WebSocketServer"]
