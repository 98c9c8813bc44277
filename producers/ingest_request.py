"""One request: its events' verdicts, what Kafka has not told of yet, and in the end the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from confluent_kafka import Message

from infra.errors import WeirError
from producers.ingest_flight import Flight
from producers.ingest_judge import Judged, KnownIds
from producers.ingest_verdicts import ACCEPTED, UNKNOWN, Answer, IdVerdict, answer


class IngestRequest:
    """`known` is where the ids go that Kafka has. `is_whole` is set when all events are judged and sent."""

    def __init__(self, flight: Flight, known: KnownIds | None) -> None:
        self._flight, self._known = flight, known
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting = self._size = 0
        self.judged = Judged()
        self.is_whole = asyncio.Event()

    def wait_for(self, size: int) -> None:
        """A record is sent that takes so many bytes."""
        self._waiting += 1
        self._size += size
        self._flight.hold(size)

    def told(self, error: WeirError | None, record: Message | None) -> None:
        """What became of the record of one event, whose key is its id."""
        key = record.key() if record is not None else None
        assert isinstance(key, bytes)
        self.settle((self.judged.places[key.decode()],), error)

    def settle(self, places: Sequence[int], error: WeirError | None) -> None:
        """What became of the record that holds the events at these places."""
        if error is not None or self._flight.away:
            self._flight.heard(error)
        for place in places:
            verdict = self.judged.verdicts[place]
            if error is not None:
                verdict.reason = str(error)
                continue
            verdict.status = ACCEPTED
            if self._known is not None and isinstance(verdict, IdVerdict) and verdict.event_id is not None:
                self._known.add(verdict.event_id)
        self._waiting -= 1
        if not self._waiting:
            self._let_go()
            if self.is_whole.is_set() and not self._done.done():
                self._done.set_result(None)

    def give_up(self) -> None:
        """Nobody will tell of the rest."""
        for verdict in self.judged.verdicts:
            if verdict.status == UNKNOWN and verdict.reason is None:
                verdict.reason = "this service stopped before Kafka answered"
        self._let_go()
        if not self._done.done():
            self._done.set_result(None)

    async def answered(self) -> Answer:
        """The answer, once nothing is waited for; all events are in by now."""
        self.is_whole.set()
        if self._waiting:
            await self._done
        verdicts = self.judged.verdicts
        for place, twin in self.judged.twins:  # what is known of the first is known of the second
            if verdicts[twin].status == UNKNOWN:
                verdicts[place].status, verdicts[place].reason = UNKNOWN, verdicts[twin].reason
        return answer(verdicts, self.judged.ignored_fields)

    def _let_go(self) -> None:
        self._flight.hold(-self._size)
        self._size = 0
