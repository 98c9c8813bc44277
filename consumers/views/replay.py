"""The Kafka half of a view in memory: topics read from given offsets on, in a thread; and what topics hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar, cast

from confluent_kafka import Message

from weir.infra import log
from weir.infra.config import Config
from weir.infra.errors import OffsetLostError, RetryableError
from weir.infra.kafka.partition_reader import (
    FIRST,
    STABLE_END,
    PartitionOffsets,
    PartitionReader,
    partitions_of,
    since,
)
from weir.infra.runtime.threads import ReadingThread
from weir.schemas.errors import PoisonError
from weir.schemas.topic import PartitionId, Topic

#: How long Kafka has for an answer, in seconds.
_PATIENCE = 5.0
_POLL = 0.1
#: Records handed over at once at most.
_MOST = 500
#: What librdkafka fetches ahead, in KiB.
_FETCHED = 16 << 10

_log = log.get_logger("view")

T = TypeVar("T")


@dataclass(frozen=True)
class Edges:
    """Offsets of topics at the time `asked` (seconds, monotonic). `topics`: the Kafka id of each topic, which a topic
    made again does not share; `places`: the first offset to read and the committed end of each partition; `kept`: its
    first offset.
    """

    asked: float
    topics: Mapping[str, str]
    places: Mapping[PartitionId, tuple[int, int]]
    kept: Mapping[PartitionId, int]

    def emptied_since(self, before: Edges) -> bool:
        """Whether a place has lost all that it held then, at least. `weir reset` deletes like that; retention by size
        never does, and by time only where nothing was written for as long."""
        return any(
            at > before.kept[place] and at >= before.places[place][1]
            for place, at in self.kept.items()
            if place in before.kept
        )


class Survey:
    """Asks for the edges of topics. `since` gives epoch ms where what was written before that is not to be read."""

    def __init__(self, config: Config, topics: Sequence[Topic], since: Callable[[], int | None]) -> None:
        self._names = [topic.name for topic in topics]
        self._since = since
        self._offsets = PartitionOffsets(config, _PATIENCE)

    def ask(self) -> Edges:
        """Blocks. Raises KafkaUnavailableError, also where there is no such topic right now."""
        asked = time.monotonic()
        topics = self._offsets.all_topics(self._names)
        partitions = partitions_of(topics)
        then = self._since()
        since_then = {} if then is None else {since(then): partitions}
        kept, end, *later = self._offsets.ask({FIRST: partitions, STABLE_END: partitions, **since_then})
        first = kept
        for at in later:
            first = {place: max(kept[place], end[place] if at[place] < 0 else at[place]) for place in kept}
        ids = {name: str(described.id) for name, described in topics.items()}
        return Edges(asked, ids, {place: (first[place], end[place]) for place in end}, kept)


@dataclass
class ReplayBatch(Generic[T]):
    """Elements that were read, in order: partition, offset and element. `reached`: the offset reached in each
    partition. `unreadable` counts records left out. `again`: an offset to read no longer exists, and nothing follows.
    """

    elements: list[tuple[PartitionId, int, T]] = field(default_factory=list)
    reached: Mapping[PartitionId, int] = field(default_factory=dict)
    unreadable: int = 0
    again: bool = False


class TopicReplay(ReadingThread[ReplayBatch[T]]):
    """Reads from `start` on, for ever, and hands itself and each batch to `deliver`.

    `decode` is given a topic's own name and a record, in the thread; where it raises PoisonError, that is logged, and
    the record is left out. Kafka may go and come back. Anything else that goes wrong is handed to `failed`.
    """

    def __init__(
        self,
        config: Config,
        start: Mapping[PartitionId, int],
        decode: Callable[[str, Message], T],
        deliver: Callable[[TopicReplay[T], ReplayBatch[T]], None],
        failed: Callable[[Exception], None],
    ) -> None:
        super().__init__("view-reader", self._batches(config, dict(start)), partial(deliver, self), failed)
        self._decode = decode

    def _batches(
        self, config: Config, start: Mapping[PartitionId, int]
    ) -> Generator[ReplayBatch[T] | None, None, None]:
        with PartitionReader(config, None, {"queued.max.messages.kbytes": _FETCHED}, _warn) as reader:
            reader.assign(start)
            reached = start
            while True:
                try:
                    read = reader.read(_MOST, _POLL)
                except OffsetLostError:
                    yield ReplayBatch(again=True)
                    return
                if reader.positions == reached:
                    yield None
                else:
                    reached = reader.positions.copy()
                    yield self._batch(read, reached)

    def _batch(
        self, read: Mapping[PartitionId, Sequence[Message]], reached: Mapping[PartitionId, int]
    ) -> ReplayBatch[T]:
        batch: ReplayBatch[T] = ReplayBatch(reached=reached)
        for place, records in read.items():
            for record in records:
                offset = cast(int, record.offset())
                try:
                    batch.elements.append((place, offset, self._decode(place[0], record)))
                except PoisonError as e:
                    if not batch.unreadable:
                        _log.error("view.unreadable", topic=place[0], partition=place[1], offset=offset,
                                   reason=e.reason, error=str(e))  # fmt: skip
                    batch.unreadable += 1
        return batch


def _warn(_: PartitionId, problem: RetryableError) -> None:
    """Logs that a topic is being made again, or a broker is away: librdkafka goes on by itself."""
    _log.warning("view.kafka", error=str(problem))
