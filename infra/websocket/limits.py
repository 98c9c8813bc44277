"""What one server allows. Pure: counting only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from infra.config import Config


@dataclass(frozen=True)
class Limits:
    """`idle`, `handshake` and `closing` in seconds; `message` and `queue` in bytes; the others count connections."""

    message: int = 1 << 18
    queue: int = 1 << 20
    connections: int = 20_000
    per_address: int = 20_000
    #: Handshakes at the same time; the next wait in the kernel's backlog.
    handshakes: int = 1000
    handshake: float = 5.0
    idle: float = 4.0
    closing: float = 2.0
    origins: frozenset[str] = frozenset()

    @classmethod
    def of(cls, config: Config) -> Limits:
        """As the settings say."""
        return cls(
            message=config.broadcast_max_message,
            queue=config.broadcast_queue,
            connections=config.broadcast_connections,
            per_address=config.broadcast_per_address or config.broadcast_connections,
            idle=config.broadcast_idle / 1000,
            origins=frozenset((config.broadcast_origins or "").split(",")) - {""},
        )


class ConnectionCounts:
    """How many connections there are, in all and by address."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._by_address: Counter[str] = Counter()
        self.total = 0

    def enter(self, address: str) -> str | None:
        """Counts one more, or says which limit forbids it."""
        if self.total >= self._limits.connections:
            return f"there are {self.total} connections, which is the most"
        if self._by_address[address] >= self._limits.per_address:
            return f"there are {self._by_address[address]} connections from this address, which is the most"
        self.total += 1
        self._by_address[address] += 1
        return None

    def leave(self, address: str) -> None:
        """Counts one less."""
        self.total -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
