"""What one server allows. Pure: counting only, and the caller passes the time in."""

from __future__ import annotations

import ipaddress
import math
from collections import Counter
from dataclasses import dataclass

from infra.config import Config


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


class Pace:
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


def address_group(remote: str) -> str:
    """What counts as one address: of IPv6 the /64, because whoever has one address there has all of them (RFC 6177).

    >>> address_group("10.0.0.7"), address_group("2001:db8:1:2:3:4:5:6"), address_group("::ffff:10.0.0.7")
    ('10.0.0.7', '2001:db8:1:2::', '10.0.0.7')
    """
    if ":" not in remote:
        return remote
    address = ipaddress.IPv6Address(remote.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(address) >> 64 << 64))


class ConnectionCounts:
    """How many connections there are, in all and by address."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._by_address: Counter[str] = Counter()
        self.total = 0

    def enter(self, address: str) -> str | None:
        """Counts one more, or says which limit forbids it."""
        address = address_group(address)
        if self.total >= self._limits.connections:
            return f"there are {self.total} connections, which is the most"
        if self._by_address[address] >= self._limits.per_address:
            return f"there are {self._by_address[address]} connections from this address, which is the most"
        self.total += 1
        self._by_address[address] += 1
        return None

    def leave(self, address: str) -> None:
        """Counts one less. Raises ValueError where none is counted from there."""
        address = address_group(address)
        if not self._by_address[address]:
            raise ValueError(f"no connection from {address} is counted")
        self.total -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
