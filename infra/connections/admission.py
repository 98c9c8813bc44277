"""How many connections there are. Pure."""

from __future__ import annotations

from collections import Counter

from weir.infra.connections.addresses import address_group, is_loopback


class ConnectionLimits:
    """How many connections there are, in all and by address: `most` and `per_address` at most.

    `from_loopback`, where given, stands in for `per_address` at loopback addresses: a proxy on this machine comes from
    there, with the connections of all its clients.
    """

    def __init__(self, most: int, per_address: int, from_loopback: int | None = None) -> None:
        self._most = most
        self._per_address = per_address
        self._from_loopback = per_address if from_loopback is None else from_loopback
        self._by_address: Counter[str] = Counter()
        self.total = 0

    @property
    def is_full(self) -> bool:
        """Whether there is no place for one more, whatever its address."""
        return self.total >= self._most

    def is_crowded(self, remote: str) -> bool:
        """Whether there is no place for one more from this address."""
        address = address_group(remote)
        count = self._by_address.get(address, 0)
        return count >= self._per_address and (count >= self._from_loopback or not is_loopback(remote))

    def enter(self, remote: str) -> str | None:
        """Counts one more, or says which limit forbids it."""
        address = address_group(remote)
        if self.is_full:
            return f"{self.total} connections are open, the maximum; retry later"
        if self.is_crowded(remote):
            return f"{self._by_address[address]} connections from this address are open, the maximum; retry later"
        self.total += 1
        self._by_address[address] += 1
        return None

    def leave(self, remote: str) -> None:
        """Counts one less. Raises ValueError where none is counted from there."""
        address = address_group(remote)
        if not self._by_address[address]:
            raise ValueError(f"no connection from {address} is counted")
        self.total -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
