"""One ingest request: the verdicts of its events, the deliveries still open, and its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol, cast

from confluent_kafka import Message

from weir.infra.errors import WeirError
from weir.producers.ingest.in_flight import InFlightBudget
from weir.producers.ingest.results import DUPLICATE, UNKNOWN, IngestResponse, answer
from weir.producers.ingest.validation import GOOD, PENDING, KnownIds, ValidationResult


class Positions(Protocol):
    """Makes positions of what Kafka has acknowledged; `weir.infra.progress.progress.Progress` is one."""

    def acknowledge(self, offsets: Mapping[int, int]) -> None:
        """Records the last acknowledged offset of each partition of a request."""

    def position(self, offsets: Mapping[int, int], whole: bool) -> str | None:
        """The position of these offsets, or, where `whole`, of all that was told so far."""


class IngestRequest:
    """`known` is where the ids go that Kafka has. `is_complete` is set when all events are validated and sent.

    The verdicts are in flight until `let_go`: whoever writes the answer calls it once that is done.
    """

    def __init__(self, flight: InFlightBudget, known: KnownIds | None) -> None:
        self._flight, self._known = flight, known
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting = self._size = 0
        self.verdicts_size = 0
        self._written: dict[int, int] = {}
        self.result = ValidationResult()
        self.is_complete = asyncio.Event()

    def wait_for(self, size: int) -> None:
        """A record is sent that takes so many bytes."""
        self._waiting += 1
        self._size += size
        self._flight.hold(size)

    def on_delivery(self, error: WeirError | None, record: Message | None) -> None:
        """Records the delivery result of the record of one event, whose key is the event's id."""
        key = record.key() if record is not None else None
        assert isinstance(key, bytes)
        self.settle((self.result.places[key.decode()],), error, record)

    def settle(self, places: Sequence[int], error: WeirError | None, record: Message | None = None) -> None:
        """Records the delivery result of the record that holds the events at these places."""
        if error is not None or self._flight.away:
            self._flight.heard(error)
        if error is None and record is not None:
            partition, offset = cast(tuple[int, int], (record.partition(), record.offset()))
            self._written[partition] = max(offset, self._written.get(partition, offset))
        findings = self.result.findings
        found = GOOD if error is None else self.result.found(UNKNOWN, None, str(error))
        for place in places:
            findings[place] = found
            if self._known is not None and error is None and (id_ := self.result.ids[place]) is not None:
                self._known.add(id_)
        self._waiting -= 1
        if not self._waiting:
            self._are_gone()
            if self.is_complete.is_set() and not self._done.done():
                self._done.set_result(None)

    def give_up(self) -> None:
        """Marks the events without a delivery result as unknown."""
        findings = self.result.findings
        left = self.result.found(UNKNOWN, None, "this service stopped before Kafka answered")
        for place, finding in enumerate(findings):
            if finding is PENDING:
                findings[place] = left
        self._are_gone()
        if not self._done.done():
            self._done.set_result(None)

    def complete(self) -> None:
        """Marks the request as complete: all its events are validated and sent to the producer."""
        self.is_complete.set()
        self.verdicts_size = self.result.size
        self._flight.hold(self.verdicts_size)

    async def answered(self, positions: Positions | None = None) -> IngestResponse:
        """The answer, once nothing is waited for; all events are in by now."""
        if self._waiting:
            await self._done
        findings = self.result.findings
        for place, twin in self.result.twins:  # what is known of the first is known of the second
            if findings[twin].status == UNKNOWN:
                findings[place] = findings[twin]
        position = None
        if positions is not None:
            positions.acknowledge(self._written)
            has_known = any(finding.status == DUPLICATE for finding in findings)  # written by some request before
            position = positions.position(self._written, has_known)
        ids = self.result.ids if self._known is not None else None
        return answer(findings, self.result.ignored_fields, ids, position)

    def let_go(self) -> None:
        """The answer is written, or nobody wants it any more."""
        self.is_complete.set()
        self._flight.hold(-self.verdicts_size)
        self.verdicts_size = 0

    def _are_gone(self) -> None:
        self._flight.hold(-self._size)
        self._size = 0
