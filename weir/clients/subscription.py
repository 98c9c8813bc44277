"""State of one broadcast subscriber across connections: position, messages received, next query. Pure."""

from __future__ import annotations

import binascii
from typing import NamedTuple

import msgspec

from weir.schemas.broadcast import Envelope, Hello, format_position, parse_position
from weir.schemas.errors import WeirError

_hello = msgspec.json.Decoder(Hello).decode
_envelope = msgspec.json.Decoder(Envelope).decode


class NotABroadcasterError(WeirError):
    """Raised when a message is not one that weir's broadcaster sends."""


class Message(NamedTuple):
    """One message: the bytes that were sent, and the envelope they came in."""

    data: bytes
    envelope: bytes


class Subscription:
    """State that outlives a connection. `after` is a position to continue from, `last` how many messages to begin with.

    For each connection: `query`, then `hello` with the first message, then `message` with each of the others. Positions
    of one connection grow one message at a time, so what has moved since the one before says where a message stands;
    one that stands before what was had already came twice.
    """

    def __init__(self, channel: str | None = None, after: str | None = None, last: int | None = None) -> None:
        self._channel, self._last = channel, last
        self._had: dict[int, int] = parse_position(after) if after is not None else {}
        self._now: dict[int, int] = {}  # as of the last message of this connection

    @property
    def position(self) -> str | None:
        """Where to go on; None before the first `hello`."""
        return format_position(self._had) if self._had else None

    def query(self) -> dict[str, str]:
        """Returns the query parameters of the next connection."""
        wanted = {"envelope": "1"}
        if self._channel is not None:
            wanted["channel"] = self._channel
        if self.position is not None:
            wanted["after"] = self.position
        elif self._last is not None:
            wanted["last"] = str(self._last)
        return wanted

    def hello(self, text: bytes) -> bool:
        """Takes a connection's first message; gives whether nothing was missed. Raises NotABroadcasterError."""
        try:
            hello = _hello(text)
            self._now = parse_position(hello.position, "position")
        except (msgspec.MsgspecError, ValueError) as e:
            raise NotABroadcasterError(f"the server is not a weir broadcaster: it first sent {text[:80]!r}") from e
        if hello.recovered:
            self._had = self._now | self._had
        else:  # also where the topic was made anew, and its offsets are smaller than those that were
            self._had = dict(self._now)
        return hello.recovered

    def message(self, text: bytes) -> Message | None:
        """Takes one of the other messages; None where it was had before. Raises NotABroadcasterError."""
        try:
            envelope = _envelope(text)
            now = parse_position(envelope.position, "position")
            data = _data(envelope)
        except (msgspec.MsgspecError, ValueError) as e:
            raise NotABroadcasterError(f"the server is not a weir broadcaster: it sent {text[:80]!r}") from e
        moved = {p: offset for p, offset in now.items() if offset != self._now.get(p)}
        self._now = now
        if moved and all(offset <= self._had.get(p, 0) for p, offset in moved.items()):
            return None
        self._had |= {p: max(offset, self._had.get(p, 0)) for p, offset in moved.items()}
        return Message(data, text)


def _data(envelope: Envelope) -> bytes:
    if isinstance(envelope.data, str):
        return envelope.data.encode()
    if isinstance(envelope.base64, str):
        return binascii.a2b_base64(envelope.base64, strict_mode=True)
    raise ValueError("neither data nor base64")
