"""Limits of one WebSocket server. Pure: counting only, and the caller passes the time in."""

from __future__ import annotations

import math
from dataclasses import dataclass

from weir.infra.config.sections.broadcast import BroadcastConfig


@dataclass(frozen=True)
class Limits:
    """`idle`, `handshake`, `crowded`, `closing` in seconds; `message` and `queue` in bytes; the others are counts."""

    message: int = 1 << 18
    queue: int = 1 << 20
    connections: int = 20_000
    per_address: int = 20_000
    #: Handshakes that are not complete, at one port; the next wait in the kernel's backlog.
    handshakes: int = 1000
    #: Seconds that a request has to be complete, and that it has for sure where others wait for its place.
    handshake: float = 5.0
    crowded: float = 1.0
    idle: float = 4.0
    closing: float = 2.0
    #: On a route whose peers have nothing to say: bytes of a message, and frames, a second in the long run and at once.
    quiet_message: int = 4096
    quiet_rate: float = 10.0
    quiet_burst: int = 100
    origins: frozenset[str] = frozenset()

    @classmethod
    def of(cls, config: BroadcastConfig) -> Limits:
        """Returns the limits that the settings ask for."""
        return cls(
            message=config.max_message,
            queue=config.queue,
            connections=config.connections,
            per_address=config.per_address or config.connections,
            idle=config.idle / 1000,
            origins=frozenset((config.origins or "").split(",")) - {""},
        )


class TokenBucket:
    """How often something may be: `burst` times at once, and `rate` times a second in the long run. All times are
    seconds of one monotonic clock."""

    __slots__ = ("_ahead", "_rate", "_until")

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._ahead = burst / rate + 1e-9  # times are no exact sums
        #: When all that was taken would have been due at this rate.
        self._until = -math.inf

    def take(self, count: int, now: float) -> bool:
        """Counts so many more; whether they are within the pace."""
        self._until = max(self._until, now) + count / self._rate
        return self._until - now <= self._ahead
