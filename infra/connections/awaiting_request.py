"""Connections whose request is not there yet, and which of them make way where there are too many. Pure.

Who connects in earnest sends a request at once. Who does not may hold as many places as it can make connections, so
places are taken back: from addresses that hold many, and there from those that came first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Generic, TypeVar

from weir.infra.connections.addresses import address_group

T = TypeVar("T", bound=Hashable)


class AwaitingRequest(Generic[T]):
    """At most `most`, and `per_address` of one address. Where others wait, each has `patience` seconds before it has
    to make way. All times are seconds of one monotonic clock."""

    def __init__(self, most: int, per_address: int, patience: float) -> None:
        self._most = most
        self._per_address = per_address
        self._patience = patience
        #: In the order in which they came: the address of each, and when that was.
        self._there: dict[T, tuple[str, float]] = {}
        self._by_address: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._there)

    @property
    def is_full(self) -> bool:
        """Whether there is no place for one more."""
        return len(self._there) >= self._most

    def enter(self, one: T, remote: str, now: float) -> T | None:
        """Adds a connection; returns the connection to evict for it if its address has too many."""
        address = address_group(remote)
        oldest = self.oldest(remote) if self._by_address[address] >= self._per_address else None
        self._there[one] = address, now
        self._by_address[address] += 1
        return oldest

    def oldest(self, remote: str) -> T | None:
        """The one of this address that came first."""
        address = address_group(remote)
        if not self._by_address.get(address):
            return None
        return next(one for one, (of, _) in self._there.items() if of == address)

    def leave(self, one: T) -> None:
        """Removes a connection whose request is complete, or that has closed. Does nothing if it was removed before."""
        if (found := self._there.pop(one, None)) is not None:
            self._by_address[found[0]] -= 1
            if not self._by_address[found[0]]:
                del self._by_address[found[0]]

    def evictable(self, now: float) -> tuple[list[T], float]:
        """Returns the connections to evict now, at least one and at most a quarter of all; if none may be evicted yet,
        also the seconds until one may.

        Only addresses with at least the average number of connections are candidates.
        """
        average = len(self._there) / max(1, len(self._by_address))
        many = [(one, at) for one, (of, at) in self._there.items() if self._by_address[of] >= average]
        late = [one for one, at in many if now - at >= self._patience]
        late.sort(key=lambda one: -self._by_address[self._there[one][0]])  # stable: the oldest of an address first
        wait = max(0.0, many[0][1] + self._patience - now) if many else 0.0
        return late[: max(1, self._most // 4)], wait
