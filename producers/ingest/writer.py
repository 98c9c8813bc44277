"""Writes the events of a request: validates them, sends them to Kafka, answers once Kafka has acknowledged them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from confluent_kafka import KafkaException

from weir.infra import log
from weir.infra.config import Config
from weir.infra.errors import KafkaUnavailableError, WeirError
from weir.infra.kafka import client as kafka
from weir.infra.kafka.acknowledged import AcknowledgedProducer, Delivered
from weir.infra.runtime.threads import in_daemon
from weir.producers.ingest.body import BodyError, Raws, cost_of, events_in
from weir.producers.ingest.in_flight import InFlightBudget
from weir.producers.ingest.intake import Intake
from weir.producers.ingest.request import IngestRequest, Positions
from weir.producers.ingest.results import IngestResponse
from weir.producers.ingest.validation import KnownIds, Validator, ValidEvent

#: Seconds that Kafka has to acknowledge a record; then nobody knows what became of it.
DELIVERY_TIMEOUT = 5.0
#: So many events, or so many bytes of them, are judged and written at a time, then others get their turn.
SLICE, SLICE_BYTES = 250, 256 << 10
#: The longest record that events share, in bytes.
PACKED = 64 << 10
#: The most ids that are known to be in Kafka, and for how long, in ms; the job knows more.
_KNOWN_IDS, _KNOWN_FOR = 200_000, 600_000
#: What a record takes in memory on top of its value, about, in bytes.
_OVERHEAD = 512
#: What is counted of the answers.
COUNTED = ("accepted", "duplicates", "refused", "unknown", "ignored_fields")
#: Seconds between two questions to a Kafka that was away, while nothing is written.
_ASK = 1.0

_log = log.get_logger("ingest")


class IngestWriter:
    """Takes bodies in for one intake; for one event loop. `counts` is what the answers so far say together."""

    def __init__(
        self,
        config: Config,
        intake: Intake,
        check: Callable[[Any], object] | None,
        clock: Callable[[], int],
        positions: Positions | None = None,
    ) -> None:
        self._config, self._intake, self._clock, self._positions = config, intake, clock, positions
        self._topic = config.topic(intake.topic.name)
        self._known: KnownIds | None = None
        if intake.id_of is not None:
            capacity = min(config.monitoring.dedup_capacity, _KNOWN_IDS)
            self._known = KnownIds(capacity, min(config.monitoring.dedup_retention, _KNOWN_FOR))
        self._validator = Validator(intake, intake.max_skew(config), check, self._known)
        self._open: set[IngestRequest] = set()
        self._is_open = False
        self.flight = InFlightBudget(intake.name, config.ingest.in_flight)
        self.counts: Counter[str] = Counter()

    async def open(self) -> None:
        """Makes the topic where it is missing. Raises KafkaUnavailableError; then it may be called again."""
        await in_daemon(lambda: kafka.ensure_topics(self._config, [self._intake.topic], timeout=3))
        self._admin = kafka.admin(self._config)
        producer = kafka.producer(
            self._config,
            **{
                "message.timeout.ms": int(DELIVERY_TIMEOUT * 1000),
                # `InFlightBudget` is the bound: what it let in has room here.
                "queue.buffering.max.messages": 0,
                "queue.buffering.max.kbytes": 2**31 - 1,
                # librdkafka waits for the end of a linger without sleeping: the longer, the less of the CPU goes there.
                "linger.ms": 10,
                "reconnect.backoff.max.ms": 1000,
            },
        )
        self._records = AcknowledgedProducer(self._config, producer, self._turn)
        self._is_open = True

    async def work(self) -> None:
        """Notices when a Kafka that was away is back; until cancelled.

        Raises WeirError where nothing can be written any more.
        """
        while not self._records.failed.done():
            await asyncio.wait([self._records.failed], timeout=_ASK)
            if self.flight.away and not self._open and await in_daemon(self._answers):
                self.flight.heard(None)
        self._records.failed.result()

    async def take(self, body: bytes, lines: bool, patient: bool = False) -> IngestRequest:
        """Validates the events of a body and sends the valid ones to Kafka. The caller passes the request to `answer`,
        and always to `let_go` in the end.

        Waits while too many bytes are in flight if `patient`. Raises BodyError.
        """
        cost = cost_of(body, lines)
        if patient:
            await self.flight.room(cost)
        if not self._is_open:
            raise BodyError("the service is stopping; retry later", 503)
        self.check_room(cost)
        request = IngestRequest(self.flight, self._known)
        self._open.add(request)
        try:
            with self.flight.held(cost):
                raws = await events_in(body, lines)
                del body
                now = self._clock()
                if self._known is not None:
                    self._known.turn(now)
                for number, some in enumerate(_slices(raws)):
                    if number:
                        await asyncio.sleep(0)
                    self._write(request, self._validator.validate(request.result, some, now), now)
                del raws
            request.complete()
        except BaseException:
            self.let_go(request)
            raise
        return request

    async def answer(self, request: IngestRequest) -> IngestResponse:
        """The answer, when Kafka has told of each event."""
        made = await request.answered(self._positions)
        self._open.discard(request)
        self.counts.update({name: getattr(made, name) for name in COUNTED})
        return made

    def let_go(self, request: IngestRequest) -> None:
        """The answer is written, or nobody wants it any more."""
        self._open.discard(request)
        request.let_go()

    def check_room(self, more: int, own: int = 0) -> None:
        """Raises BodyError where there is no room for `more` bytes for one who has `own`."""
        if self.flight.fits(more, own):
            return
        if self.flight.away:
            raise BodyError("Kafka does not answer; retry later", 503)
        raise BodyError("too many bytes are in flight; retry later", 429)

    async def close(self, timeout: float) -> None:
        """Takes nothing more, and gives Kafka `timeout` seconds for what waits; what became of the rest is unknown."""
        self._is_open = False
        for request in list(self._open):
            await request.is_complete.wait()
        if left := await self._records.flush(timeout):
            _log.error("ingest.left_behind", intake=self._intake.name, unacknowledged=left)
        for request in self._open:
            request.give_up()

    def _write(self, request: IngestRequest, valid: Sequence[ValidEvent], now: int) -> None:
        if self._intake.id_of is not None:
            delivered = self._records.delivery_callback(request.on_delivery)
            for place, raw, key in valid:
                self._send(request, (place,), raw, key, delivered, now)
            return
        places: list[int] = []
        raws: list[bytes] = []
        size = 0
        for place, raw, _ in valid:
            if raws and size + len(raw) + 2 > PACKED:
                self._send_packed(request, places, raws, now)
                places, raws, size = [], [], 0
            places.append(place)
            raws.append(raw)
            size += len(raw) + 1
        if raws:
            self._send_packed(request, places, raws, now)

    def _send_packed(self, request: IngestRequest, places: Sequence[int], raws: Sequence[bytes], now: int) -> None:
        value = raws[0] if len(raws) == 1 else b"[" + b",".join(raws) + b"]"
        delivered = self._records.delivery_callback(lambda error, record: request.settle(places, error, record))
        self._send(request, places, value, None, delivered, now)

    def _send(
        self,
        request: IngestRequest,
        places: Sequence[int],
        value: bytes,
        key: bytes | None,
        delivered: Delivered,
        now: int,
    ) -> None:
        request.wait_for(len(value) + _OVERHEAD)
        try:
            if not self._records.send(self._topic, value, key, delivered, timestamp=now):
                raise KafkaUnavailableError("too many records wait for Kafka; retry later")
        except WeirError as e:
            request.settle(places, e)

    def _turn(self) -> None:
        if self._records.is_silent and not self.flight.away:
            self.flight.heard(KafkaUnavailableError())

    def _answers(self) -> bool:
        try:
            self._admin.list_topics(self._topic, timeout=1)
        except KafkaException:
            return False
        return True


def _slices(raws: Raws) -> Iterator[Raws]:
    """The events, in order, so many at a time; one that is too long by itself comes alone."""
    start = 0
    while start < len(raws):
        some = raws[start : start + SLICE]
        while len(some) > 1 and sum(map(len, some)) > SLICE_BYTES:
            some = some[: len(some) // 2]
        yield some
        start += len(some)
