"""What is in flight: the bytes of events that are read or wait for Kafka, and whether Kafka is there."""

from __future__ import annotations

import asyncio

from infra import log
from infra.errors import WeirError

_log = log.get("ingest")


class Flight:
    """For one intake of that name, and `limit` bytes.

    `size` is how many bytes are in flight; `away` whether Kafka was away when last heard of.
    """

    def __init__(self, name: str, limit: int) -> None:
        self._name, self._limit = name, limit
        self._room = asyncio.Event()
        self.size = 0
        self.away = False

    def fits(self, more: int, own: int = 0) -> bool:
        """Whether there is room for `more` bytes for one who has `own`; there always is for one who is alone."""
        return self.size <= own or self.size + more <= self._limit

    async def room(self, more: int) -> None:
        """Returns when there is room for `more` bytes."""
        while not self.fits(more):
            self._room.clear()
            await self._room.wait()

    def hold(self, size: int) -> None:
        """So many bytes more are in flight; less where negative."""
        self.size += size
        if size < 0:
            self._room.set()

    def heard(self, error: WeirError | None) -> None:
        """Kafka told that it has a record, or why not; or was heard of in another way."""
        away = error is not None
        if away != self.away:
            self.away = away
            say = _log.warning if away else _log.info
            facts = {"intake": self._name, "in_flight_bytes": self.size} | ({"error": str(error)} if away else {})
            say("ingest.waiting" if away else "ingest.goes_on", **facts)
