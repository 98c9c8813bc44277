"""From the body of a request to what became of each of its events: judged, written, answered when Kafka has told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaException

from infra import kafka, log
from infra.config import Config
from infra.errors import KafkaUnavailableError, WeirError
from infra.threads import in_daemon
from producers.acknowledged import AcknowledgedProducer
from producers.ingest_body import BodyError, events_in
from producers.ingest_intake import Intake
from producers.ingest_judge import Fit, Judge, Judged, KnownIds
from producers.ingest_verdicts import ACCEPTED, UNKNOWN, Answer, answer

#: Seconds that Kafka has to acknowledge a record; then nobody knows what became of it.
DELIVERY_TIMEOUT = 5.0
#: So many events are judged and written at a time, then others get their turn.
SLICE = 250
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
    """Takes bodies in for one intake; for one event loop.

    `in_flight` is how many bytes of events wait for Kafka or are still being read, `away` whether Kafka was away when
    last heard of. `counts` is what the answers so far say together.
    """

    def __init__(
        self, config: Config, intake: Intake, check: Callable[[Any], object] | None, clock: Callable[[], int]
    ) -> None:
        self._config, self._clock, self._name = config, clock, intake.name
        self._topic, self._intake = config.topic(intake.topic.name), intake
        self._known: KnownIds | None = None
        if intake.id_of is not None:
            capacity = min(config.monitoring_dedup_capacity, _KNOWN_IDS)
            self._known = KnownIds(capacity, min(config.monitoring_dedup_retention, _KNOWN_FOR))
        self._judge = Judge(intake, intake.max_skew(config), check, self._known)
        self._open: set[_Request] = set()
        self._limit = config.ingest_in_flight
        self._room = asyncio.Event()
        self.in_flight = 0
        self.is_open = self.away = False
        self.counts: Counter[str] = Counter()

    async def open(self) -> None:
        """Makes the topic where it is missing. Raises KafkaUnavailableError; then it may be called again."""
        await in_daemon(lambda: kafka.ensure_topics(self._config, [self._intake.topic], timeout=3))
        self._admin = kafka.admin(self._config)
        producer = kafka.producer(
            self._config,
            **{
                "message.timeout.ms": int(DELIVERY_TIMEOUT * 1000),
                # `fits` is the bound: what was let in has room here.
                "queue.buffering.max.messages": 0,
                "queue.buffering.max.kbytes": 2**31 - 1,
                "reconnect.backoff.max.ms": 1000,
            },
        )
        self._records = AcknowledgedProducer(producer, self._turn)
        self.is_open = True

    async def work(self) -> None:
        """Notices when a Kafka that was away is back; until cancelled.

        Raises WeirError where nothing can be written any more.
        """
        while not self._records.failed.done():
            await asyncio.wait([self._records.failed], timeout=_ASK)
            if self.away and not self._open and await in_daemon(self._answers):
                self._heard(None)
        self._records.failed.result()

    async def take(self, body: bytes, lines: bool) -> Answer:
        """The events of a body, judged, and written if fit; the answer when Kafka has told of each.

        Raises BodyError.
        """
        if not self.is_open:
            raise BodyError("this service stops", 503)
        raws = events_in(body, lines)
        del body
        now = self._clock()
        if self._known is not None:
            self._known.turn(now)
        request = _Request(self)
        self._open.add(request)
        try:
            for start in range(0, len(raws), SLICE):
                if start:
                    await asyncio.sleep(0)
                self._write(request, self._judge.judge(request.judged, raws[start : start + SLICE], now), now)
            del raws
            made = await request.answered()
        finally:
            self._open.discard(request)
            request.is_whole.set()
        self.counts.update({name: getattr(made, name) for name in COUNTED})
        return made

    def fits(self, more: int, own: int = 0) -> bool:
        """Whether there is room for `more` bytes for one who has `own`; there always is for one who is alone."""
        return self.in_flight <= own or self.in_flight + more <= self._limit

    async def room(self, more: int) -> None:
        """Returns when there is room for `more` bytes."""
        while not self.fits(more):
            self._room.clear()
            await self._room.wait()

    def hold(self, size: int) -> None:
        """So many bytes more are in memory; less where negative."""
        self.in_flight += size
        if size < 0:
            self._room.set()

    async def close(self, timeout: float) -> None:
        """Takes nothing more, and gives Kafka `timeout` seconds for what waits; what became of the rest is unknown."""
        self.is_open = False
        for request in list(self._open):
            await request.is_whole.wait()
        if left := await self._records.flush(timeout):
            _log.error("ingest.left_behind", intake=self._name, unacknowledged=left)
        for request in self._open:
            request.give_up()

    def settled(self, verdicts: Sequence[Any], size: int, error: WeirError | None) -> None:
        """Kafka told of a record, of `size` bytes, with the events of these verdicts."""
        self.hold(-size)
        if error is not None or self.away:
            self._heard(error)
        if error is None and self._known is not None:
            for verdict in verdicts:
                self._known.add(verdict.event_id)

    def _write(self, request: _Request, fit: Sequence[Fit], now: int) -> None:
        if self._intake.id_of is not None:
            for place, raw, key in fit:
                self._send(request, (place,), raw, key, now)
            return
        places: list[int] = []
        raws: list[bytes] = []
        size = 0
        for place, raw, _ in fit:
            if raws and size + len(raw) > PACKED:
                self._send(request, places, _packed(raws), None, now)
                places, raws, size = [], [], 0
            places.append(place)
            raws.append(raw)
            size += len(raw) + 1
        if raws:
            self._send(request, places, _packed(raws), None, now)

    def _send(self, request: _Request, places: Sequence[int], value: bytes, key: bytes | None, now: int) -> None:
        size = len(value) + _OVERHEAD
        self.hold(size)
        request.waiting += 1
        fate = partial(request.told, places, size)
        if not self._records.send(self._topic, value, key, fate, timestamp=now):
            fate(KafkaUnavailableError("too much waits for Kafka"))

    def _turn(self) -> None:
        if self._records.is_silent and not self.away:
            self._heard(KafkaUnavailableError())

    def _heard(self, error: WeirError | None) -> None:
        away = error is not None
        if away != self.away:
            self.away = away
            say = _log.warning if away else _log.info
            facts = {"intake": self._name, "in_flight_bytes": self.in_flight} | ({"error": str(error)} if away else {})
            say("ingest.waiting" if away else "ingest.goes_on", **facts)

    def _answers(self) -> bool:
        try:
            self._admin.list_topics(self._topic, timeout=1)
        except KafkaException:
            return False
        return True


class _Request:
    """One request: what Kafka has not told of yet, and the answer."""

    def __init__(self, writer: IngestWriter) -> None:
        self._writer = writer
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.judged = Judged()
        self.waiting = 0
        self.is_whole = asyncio.Event()

    def told(self, places: Sequence[int], size: int, error: WeirError | None) -> None:
        """What became of the record, of `size` bytes, that holds the events at these places."""
        verdicts = [self.judged.verdicts[place] for place in places]
        self._writer.settled(verdicts, size, error)
        for verdict in verdicts:
            if error is None:
                verdict.status = ACCEPTED
            else:
                verdict.reason = str(error)
        self.waiting -= 1
        if not self.waiting and self.is_whole.is_set() and not self._done.done():
            self._done.set_result(None)

    def give_up(self) -> None:
        """Nobody will tell of the rest."""
        for verdict in self.judged.verdicts:
            if verdict.status == UNKNOWN and verdict.reason is None:
                verdict.reason = "this service stopped before Kafka answered"
        if not self._done.done():
            self._done.set_result(None)

    async def answered(self) -> Answer:
        """The answer, once nothing is waited for; all events are in by now."""
        self.is_whole.set()
        if self.waiting:
            await self._done
        verdicts = self.judged.verdicts
        for place, twin in self.judged.twins:  # what is known of the first is known of the second
            if verdicts[twin].status == UNKNOWN:
                verdicts[place].status, verdicts[place].reason = UNKNOWN, verdicts[twin].reason
        return answer(verdicts, self.judged.ignored_fields)


def _packed(raws: Sequence[bytes]) -> bytes:
    """Events as one record's value."""
    return raws[0] if len(raws) == 1 else b"[" + b",".join(raws) + b"]"
