"""The Kafka half of the reporter: link-counts and link-windows, and how far they have been reported.

The consumer group's committed offset of a partition is the oldest that is still needed to put together a window; its
metadata says up to where everything has been reported. So a restart reads back what it needs and repeats nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, cast

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from consumers.window_assembler import At, Place, WindowAssembler
from infra import kafka, log
from infra.config import Config
from infra.errors import OffsetLostError
from schemas.errors import PoisonError
from schemas.topics import LINK_COUNTS, LINK_WINDOWS

#: How long Kafka has for an answer, in seconds.
_PATIENCE = 5.0
_MOST = 10_000
_FILL = 0.02

_log = log.get(__name__)


class Mark(msgspec.Struct, frozen=True):
    """What the metadata of a committed offset says: everything before `reported` has been reported, and `since` is
    where the partition ended at the reporter's very first start."""

    reported: int
    since: int


class WindowSource:
    """Reads both topics into an assembler. Blocks; one call at a time. Raises KafkaUnavailableError."""

    def __init__(self, config: Config, group: str) -> None:
        self._counts = config.topic(LINK_COUNTS.name)
        self._decoders: dict[str, Any] = {
            self._counts: LINK_COUNTS.decoder(),
            config.topic(LINK_WINDOWS.name): LINK_WINDOWS.decoder(),
        }
        self._consumer = kafka.consumer(config, group, **{"enable.partition.eof": True})
        self._lock = threading.Lock()
        self._marks: dict[Place, Mark] = {}
        self._positions: dict[Place, int] = {}
        self._behind: set[Place] = set()

    def open(self) -> list[int]:
        """Starts to read where the last run left off; gives the partitions of link-counts.

        The very first time, what is in the topics belongs to the time before: it is read, for the windows that are
        open now, and not reported. That is committed at once.
        """
        with self._lock, kafka.translated():
            edges = self._edges()
            committed = {
                (known.topic, known.partition): known
                for known in self._consumer.committed(_places(edges), timeout=_PATIENCE)
                if known.offset >= 0
            }
            for place, (first, end) in edges.items():
                known = committed.get(place)
                if known is not None:
                    mark = _mark(known)
                elif committed:  # a partition that is new
                    mark = Mark(first, first)
                else:
                    mark = Mark(end, end)
                start = first if known is None else known.offset
                if start < first:
                    _log.error("reporter.records_lost", topic=place[0], partition=place[1], first=first, wanted=start)
                self._marks[place] = mark
                self._positions[place] = max(start, first)
            self._behind = set(edges)
            if not committed:
                self._commit({})
            self._consumer.assign([TopicPartition(*place, offset) for place, offset in self._positions.items()])
            return [partition for topic, partition in edges if topic == self._counts]

    def read(self, assembler: WindowAssembler, timeout: float) -> None:
        """Takes in what comes within `timeout` seconds."""
        with self._lock, kafka.translated():
            first = self._consumer.poll(timeout)
            if first is not None:
                for message in (first, *self._consumer.consume(_MOST - 1, timeout=_FILL)):
                    self._take(message, assembler)

    @property
    def caught_up(self) -> bool:
        """Whether all that earlier runs have reported has been read again, and the assembler knows what they knew."""
        return not self._behind

    def commit(self, needed: Mapping[Place, int]) -> None:
        """Says that everything read so far has been reported, except what is made from the `needed` offsets on."""
        with self._lock, kafka.translated():
            self._commit(needed)

    def close(self, seconds: float = 2.0) -> None:
        """Closes the consumer, unless a call that still runs keeps it for longer than that."""
        if self._lock.acquire(timeout=seconds):
            self._consumer.close()

    def _commit(self, needed: Mapping[Place, int]) -> None:
        offsets = []
        for place, position in self._positions.items():
            since = self._marks[place].since
            mark = Mark(max(position, self._marks[place].reported), since)
            metadata = msgspec.json.encode(mark).decode()
            offsets.append(TopicPartition(*place, min(needed.get(place, position), position), metadata))
        for done in self._consumer.commit(offsets=offsets, asynchronous=False) or ():
            if done.error is not None:
                raise KafkaException(done.error)

    def _edges(self) -> dict[Place, tuple[int, int]]:
        """The first offset and the end of every partition of both topics."""
        found = {}
        for topic in self._decoders:
            for partition in self._consumer.list_topics(topic, timeout=_PATIENCE).topics[topic].partitions:
                place = TopicPartition(topic, partition)
                found[topic, partition] = self._consumer.get_watermark_offsets(place, timeout=_PATIENCE)
        return found

    def _take(self, message: Message, assembler: WindowAssembler) -> None:
        topic, partition, offset = cast(tuple[str, int, int], (message.topic(), message.partition(), message.offset()))
        place = (topic, partition)
        error = message.error()
        if error is not None:
            self._no_record(error, place, offset, assembler)
            return
        mark = self._marks[place]
        at = At(place, offset, reported=offset < mark.reported, ours=offset >= mark.since)
        take = assembler.count if topic == self._counts else assembler.closed
        for element, _ in self._decoders[topic].elements(message.value()):
            if isinstance(element, PoisonError):  # the dead letter is the link-store's
                _log.warning("reporter.unreadable", topic=topic, partition=partition, offset=offset,
                             reason=element.reason)  # fmt: skip
            else:
                take(at, element)
        self._reached(place, offset + 1)

    def _no_record(self, error: KafkaError, place: Place, offset: int, assembler: WindowAssembler) -> None:
        topic, partition = place
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise OffsetLostError(f"{topic}/{partition}: records were deleted before they were read")
        if error.code() != KafkaError._PARTITION_EOF:
            raise KafkaException(error)
        if topic == self._counts:
            assembler.at_end(partition)
        self._reached(place, offset)
        self._behind.discard(place)

    def _reached(self, place: Place, position: int) -> None:
        self._positions[place] = max(position, self._positions[place])
        if position >= self._marks[place].reported:
            self._behind.discard(place)


def _places(edges: Mapping[Place, object]) -> list[TopicPartition]:
    return [TopicPartition(*place) for place in edges]


def _mark(known: TopicPartition) -> Mark:
    """What was committed; an offset without our metadata was set by hand: everything before it counts as reported."""
    try:
        return msgspec.json.decode(known.metadata or "", type=Mark)
    except msgspec.DecodeError:
        return Mark(reported=known.offset, since=0)
