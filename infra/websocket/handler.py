"""Who a connection deals with: the route's handler, and the server that it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from infra.websocket.connection import Connection


class Handler(Protocol):
    """What a route does with one connection. All calls come from the event loop, never within one another."""

    def opened(self, connection: Connection) -> None:
        """The connection is open."""

    def message(self, data: bytes, binary: bool) -> None:
        """A whole message; a text is valid UTF-8."""

    def closed(self, code: int, reason: str) -> None:
        """The connection is over; called once. 1006: without a closing handshake."""


class Owner(Protocol):
    """Where a connection belongs."""

    def ended(self, connection: Connection) -> None:
        """It is over."""

    def warn(self, event: str, **facts: object) -> None:
        """Logs what strangers can cause, and not as often as they can."""
