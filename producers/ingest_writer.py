"""From the body of a request to what became of each of its events: judged, written, answered when Kafka has told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from confluent_kafka import KafkaException

from infra import kafka, log
from infra.config import Config
from infra.errors import KafkaUnavailableError, WeirError
from infra.threads import in_daemon
from producers.acknowledged import AcknowledgedProducer, Delivered
from producers.ingest_body import BodyError, Raws, events_in
from producers.ingest_flight import Flight
from producers.ingest_intake import Intake
from producers.ingest_judge import Fit, Judge, KnownIds
from producers.ingest_request import IngestRequest
from producers.ingest_verdicts import Answer

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

_log = log.get("ingest")


class IngestWriter:
    """Takes bodies in for one intake; for one event loop. `counts` is what the answers so far say together."""

    def __init__(
        self, config: Config, intake: Intake, check: Callable[[Any], object] | None, clock: Callable[[], int]
    ) -> None:
        self._config, self._intake, self._clock = config, intake, clock
        self._topic = config.topic(intake.topic.name)
        self._known: KnownIds | None = None
        if intake.id_of is not None:
            capacity = min(config.monitoring_dedup_capacity, _KNOWN_IDS)
            self._known = KnownIds(capacity, min(config.monitoring_dedup_retention, _KNOWN_FOR))
        self._judge = Judge(intake, intake.max_skew(config), check, self._known)
        self._open: set[IngestRequest] = set()
        self._is_open = False
        self.flight = Flight(intake.name, config.ingest_in_flight)
        self.counts: Counter[str] = Counter()

    async def open(self) -> None:
        """Makes the topic where it is missing. Raises KafkaUnavailableError; then it may be called again."""
        await in_daemon(lambda: kafka.ensure_topics(self._config, [self._intake.topic], timeout=3))
        self._admin = kafka.admin(self._config)
        producer = kafka.producer(
            self._config,
            **{
                "message.timeout.ms": int(DELIVERY_TIMEOUT * 1000),
                # `Flight` is the bound: what it let in has room here.
                "queue.buffering.max.messages": 0,
                "queue.buffering.max.kbytes": 2**31 - 1,
                # librdkafka waits for the end of a linger without sleeping: the longer, the less of the CPU goes there.
                "linger.ms": 10,
                "reconnect.backoff.max.ms": 1000,
            },
        )
        self._records = AcknowledgedProducer(producer, self._turn)
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

    async def take(self, body: bytes, lines: bool) -> Answer:
        """The events of a body, judged, and written if fit; the answer when Kafka has told of each.

        Raises BodyError.
        """
        if not self._is_open:
            raise BodyError("this service stops", 503)
        request = IngestRequest(self.flight, self._known)
        self._open.add(request)
        try:
            raws = await self._told_apart(body, lines)
            del body
            now = self._clock()
            if self._known is not None:
                self._known.turn(now)
            for number, some in enumerate(_slices(raws)):
                if number:
                    await asyncio.sleep(0)
                self._write(request, self._judge.judge(request.judged, some, now), now)
            del raws
            made = await request.answered()
        finally:
            self._open.discard(request)
            request.is_whole.set()
        self.counts.update({name: getattr(made, name) for name in COUNTED})
        return made

    async def close(self, timeout: float) -> None:
        """Takes nothing more, and gives Kafka `timeout` seconds for what waits; what became of the rest is unknown."""
        self._is_open = False
        for request in list(self._open):
            await request.is_whole.wait()
        if left := await self._records.flush(timeout):
            _log.error("ingest.left_behind", intake=self._intake.name, unacknowledged=left)
        for request in self._open:
            request.give_up()

    async def _told_apart(self, body: bytes, lines: bool) -> Raws:
        self.flight.hold(len(body))
        try:
            return await events_in(body, lines)
        finally:
            self.flight.hold(-len(body))

    def _write(self, request: IngestRequest, fit: Sequence[Fit], now: int) -> None:
        if self._intake.id_of is not None:
            delivered = self._records.telling(request.told)
            for place, raw, key in fit:
                self._send(request, (place,), raw, key, delivered, now)
            return
        places: list[int] = []
        raws: list[bytes] = []
        size = 0
        for place, raw, _ in fit:
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
        delivered = self._records.telling(lambda error, _: request.settle(places, error))
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
                raise KafkaUnavailableError("too much waits for Kafka")
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
