"""The Kafka half of a view in memory: topics read from given offsets on, in a thread; and what topics hold."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

from infra import kafka, log
from infra.config import Config
from infra.errors import KafkaUnavailableError
from schemas.errors import PoisonError
from schemas.topic import Topic

#: How long Kafka has for an answer, in seconds.
_PATIENCE = 5.0
_POLL = 0.1
#: Records handed over at once at most, and how many such batches may wait for the event loop.
_MOST = 500
_AHEAD = 4
#: What librdkafka fetches ahead, in KiB.
_FETCHED = 16 << 10
_NO_TOPIC = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)

_log = log.get("view")

#: A topic's own name, without the prefix, and a partition.
Place = tuple[str, int]
T = TypeVar("T")


@dataclass(frozen=True)
class Edges:
    """What topics held when it was asked for (`asked`: seconds, monotonic): by topic the id that Kafka gave it, which a
    topic that is made again does not share; by place the first offset to read, and the end of what is committed; and
    the first offset that there is (`kept`)."""

    asked: float
    topics: Mapping[str, str]
    places: Mapping[Place, tuple[int, int]]
    kept: Mapping[Place, int]

    def emptied_since(self, before: Edges) -> bool:
        """Whether a place has lost all that it held then, at least. `weir reset` deletes like that; retention by size
        never does, and by time only where nothing was written for as long."""
        return any(
            at > before.kept[place] and at >= before.places[place][1]
            for place, at in self.kept.items()
            if place in before.kept
        )


class Survey:
    """Asks for the edges of topics. `since` gives a time (epoch ms): what was written before it is not to be read."""

    def __init__(self, config: Config, topics: Sequence[Topic], since: Callable[[], int] | None = None) -> None:
        self._names = {config.topic(topic.name): topic.name for topic in topics}
        self._since = since
        self._admin = kafka.admin(config)

    def ask(self) -> Edges:
        """Blocks. Raises KafkaUnavailableError, also where there is no such topic right now."""
        asked = time.monotonic()
        try:
            described = self._admin.describe_topics(TopicCollection(list(self._names)), request_timeout=_PATIENCE)
            ids, places = {}, []
            for name, future in described.items():
                topic = future.result()
                ids[self._names[name]] = str(topic.topic_id)
                places += [TopicPartition(name, partition.id) for partition in topic.partitions]
            kept = first = self._offsets(places, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
            end = self._offsets(places, OffsetSpec.latest())  # type: ignore[no-untyped-call]
            if self._since is not None:
                since = self._offsets(places, OffsetSpec.for_timestamp(self._since()))
                first = {
                    place: max(at, end[place] if since[place] < 0 else since[place]) for place, at in first.items()
                }
        except KafkaException as e:
            if e.args[0].code() in _NO_TOPIC:
                raise KafkaUnavailableError(f"Kafka has not all of {', '.join(self._names)}") from e
            raise kafka.translate(e) from e
        return Edges(asked, ids, {place: (first[place], end[place]) for place in end}, kept)

    def _offsets(self, places: Sequence[TopicPartition], spec: OffsetSpec) -> dict[Place, int]:
        committed = IsolationLevel.READ_COMMITTED
        found = self._admin.list_offsets(
            dict.fromkeys(places, spec), isolation_level=committed, request_timeout=_PATIENCE
        )
        return {(self._names[place.topic], place.partition): f.result().offset for place, f in found.items()}


@dataclass
class Batch(Generic[T]):
    """What was read, in order: place, offset and element. `reached`: how far each place was read then, `times`: when
    its last record was written (epoch ms). `unreadable` records are left out. `again`: an offset to read is not there
    any more, and nothing follows.
    """

    elements: list[tuple[Place, int, T]] = field(default_factory=list)
    reached: dict[Place, int] = field(default_factory=dict)
    times: dict[Place, int] = field(default_factory=dict)
    unreadable: int = 0
    again: bool = False


class Replay(Generic[T]):
    """Reads from `start` on, for ever, and hands itself and each batch to `deliver` on the event loop, which says
    `taken`.

    `decode` is given a topic's own name and a record, in the thread; where it raises PoisonError, that is logged, and
    the record is left out. Kafka may go and come back. Anything else that goes wrong is handed to `failed`.
    """

    def __init__(
        self,
        config: Config,
        start: Mapping[Place, int],
        decode: Callable[[str, Message], T],
        deliver: Callable[[Replay[T], Batch[T]], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._config = config
        self._names = {config.topic(topic): topic for topic, _ in start}
        self._positions = dict(start)
        self._decode, self._deliver, self._failed = decode, deliver, failed
        self._loop = asyncio.get_running_loop()
        self._room = threading.Semaphore(_AHEAD)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="view-reader", daemon=True)

    def start(self) -> None:
        """Begins to read."""
        self._thread.start()

    def taken(self) -> None:
        """A batch that was delivered is dealt with: there is room for one more."""
        self._room.release()

    def stop(self) -> None:
        """Delivers nothing more. Does not wait for the thread's end."""
        self._stopped.set()
        self._room.release()

    def close(self) -> None:
        """The same, and blocks until the thread has ended, for a second at most."""
        self.stop()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _run(self) -> None:
        try:
            settings = {"enable.partition.eof": True, "queued.max.messages.kbytes": _FETCHED}
            consumer = kafka.consumer(self._config, None, **settings)
            consumer.assign(
                [TopicPartition(self._config.topic(topic), p, at) for (topic, p), at in self._positions.items()]
            )
            while not self._stopped.is_set():
                messages = consumer.consume(_MOST, timeout=_POLL)
                if messages:
                    batch = self._read(messages)
                    self._hand_over(batch)
                    if batch.again:
                        break
            consumer.close()
        except Exception as e:  # noqa: BLE001 - handed to the one who runs the view
            if not self._stopped.is_set() and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._failed, e)

    def _read(self, messages: Sequence[Message]) -> Batch[T]:
        batch: Batch[T] = Batch()
        for message in messages:
            where = (message.topic(), message.partition(), message.offset())
            name, partition, offset = cast(tuple[str, int, int], where)
            place = (self._names.get(name, ""), partition)
            error = message.error()
            if error is not None:
                self._no_record(error, place, offset, batch)
                continue
            try:
                batch.elements.append((place, offset, self._decode(place[0], message)))
            except PoisonError as e:
                if not batch.unreadable:
                    _log.error("view.unreadable", topic=place[0], partition=partition, offset=offset,
                               reason=e.reason, error=str(e))  # fmt: skip
                batch.unreadable += 1
            batch.reached[place] = self._positions[place] = offset + 1
            batch.times[place] = message.timestamp()[1]
        return batch

    def _no_record(self, error: KafkaError, place: Place, offset: int, batch: Batch[T]) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            # Between the last record and the end there may be markers of transactions.
            batch.reached[place] = self._positions[place] = max(self._positions[place], offset)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            batch.again = True
        else:
            problem = kafka.translate(error)
            # A topic that is being made again, or a broker that is away: librdkafka goes on by itself.
            if error.code() not in _NO_TOPIC and not isinstance(problem, KafkaUnavailableError):
                raise problem
            _log.warning("view.kafka", error=str(problem))

    def _hand_over(self, batch: Batch[T]) -> None:
        if not self._stopped.is_set():  # whoever stops it makes room once
            self._room.acquire()
        if not self._stopped.is_set():
            self._loop.call_soon_threadsafe(self._deliver, self, batch)
