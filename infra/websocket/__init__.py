"""The WebSocket server of weir's own endpoints (RFC 6455); docs/adr/0011-websocket-server.md says why it is its own.

    WebSocketServer([Route("/websocket", make)], limits).start(host, port)

`make` gets each Request and returns a Handler, or a Refusal that becomes the HTTP response.
"""

from weir.infra.websocket.connection import Connection, Handler
from weir.infra.websocket.handshake import HandshakeRequest, Refusal
from weir.infra.websocket.limits import Limits
from weir.infra.websocket.server import Held, Route, WebSocketServer

__all__ = ["Connection", "Handler", "HandshakeRequest", "Held", "Limits", "Refusal", "Route", "WebSocketServer"]
