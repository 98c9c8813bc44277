"""The Kafka half of the reporter: link-counts and link-windows, and how far they have been reported.

The consumer group's committed offset of a partition is the oldest that is still needed to put together a window; its
metadata says up to where everything has been reported. So a restart reads back what it needs and repeats nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, cast

import msgspec
from confluent_kafka import KafkaException, Message, TopicPartition

from weir.consumers.feed.assembler import At, WindowAssembler
from weir.infra import log
from weir.infra.config import Config
from weir.infra.kafka import client as kafka
from weir.infra.kafka.partition_reader import PartitionOffsets, PartitionReader
from weir.schemas.errors import PoisonError
from weir.schemas.topic import PartitionId
from weir.schemas.topics import LINK_COUNTS, LINK_WINDOWS

#: How long Kafka has for an answer, in seconds.
_PATIENCE = 5.0
_MOST = 10_000

_log = log.get_logger(__name__)


class Mark(msgspec.Struct, frozen=True):
    """Metadata of a committed offset: everything before `reported` has been reported, and `since` is where the
    partition ended at the reporter's very first start.
    """

    reported: int
    since: int


class WindowSource:
    """Reads both topics into an assembler. Blocks; one call at a time. Raises KafkaUnavailableError."""

    def __init__(self, config: Config, group: str) -> None:
        self._config = config
        self._decoders: dict[str, Any] = {topic.name: topic.decoder() for topic in (LINK_COUNTS, LINK_WINDOWS)}
        self._reader = PartitionReader(config, group)
        self._lock = threading.Lock()
        self._marks: dict[PartitionId, Mark] = {}
        self._behind: set[PartitionId] = set()

    def open(self) -> list[int]:
        """Starts to read where the last run left off; gives the partitions of link-counts.

        The very first time, what is in the topics belongs to the time before: it is read, for the windows that are
        open now, and not reported. That is committed at once.
        """
        with self._lock, kafka.translated(self._config):
            edges = PartitionOffsets(self._config, _PATIENCE).edges(self._decoders)
            known_offsets = kafka.committed(self._reader.consumer, [self._named(place) for place in edges], _PATIENCE)
            committed = {place: known for place, known in zip(edges, known_offsets, strict=True) if known.offset >= 0}
            positions = {}
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
                positions[place] = max(start, first)
            self._behind = set(edges)
            self._reader.assign(positions)
            if not committed:
                self._commit({})
            return [partition for topic, partition in edges if topic == LINK_COUNTS.name]

    def read(self, assembler: WindowAssembler, timeout: float) -> None:
        """Takes in what comes within `timeout` seconds."""
        with self._lock:
            for place, records in self._reader.read(_MOST, timeout).items():
                for record in records:
                    self._take(place, record, assembler)
            for topic, partition in self._reader.ended:
                if topic == LINK_COUNTS.name:
                    assembler.at_end(partition)
            self._behind = {
                place
                for place in self._behind - self._reader.ended.keys()
                if self._reader.positions[place] < self._marks[place].reported
            }

    @property
    def caught_up(self) -> bool:
        """Whether all that earlier runs have reported has been read again, and the assembler knows what they knew."""
        return not self._behind

    def commit(self, needed: Mapping[PartitionId, int]) -> None:
        """Says that everything read so far has been reported, except what is made from the `needed` offsets on."""
        with self._lock, kafka.translated(self._config):
            self._commit(needed)

    def close(self, seconds: float = 2.0) -> None:
        """Closes the consumer, unless a call that still runs keeps it for longer than that."""
        if self._lock.acquire(timeout=seconds):
            self._reader.close()

    def _commit(self, needed: Mapping[PartitionId, int]) -> None:
        offsets = []
        for place, position in self._reader.positions.items():
            since = self._marks[place].since
            mark = Mark(max(position, self._marks[place].reported), since)
            metadata = msgspec.json.encode(mark).decode()
            offsets.append(self._named(place, min(needed.get(place, position), position), metadata))
        for done in self._reader.consumer.commit(offsets=offsets, asynchronous=False) or ():
            if done.error is not None:
                raise KafkaException(done.error)

    def _named(self, place: PartitionId, *offset_and_metadata: Any) -> TopicPartition:
        return TopicPartition(self._config.topic(place[0]), place[1], *offset_and_metadata)

    def _take(self, place: PartitionId, record: Message, assembler: WindowAssembler) -> None:
        mark, offset = self._marks[place], cast(int, record.offset())
        at = At(place, offset, reported=offset < mark.reported, ours=offset >= mark.since)
        take = assembler.count if place[0] == LINK_COUNTS.name else assembler.closed
        for element, _ in self._decoders[place[0]].elements(record.value()):
            if isinstance(element, PoisonError):  # the dead letter is the link-store's
                _log.warning("reporter.unreadable", topic=place[0], partition=place[1], offset=offset,
                             reason=element.reason)  # fmt: skip
            else:
                take(at, element)


def _mark(known: TopicPartition) -> Mark:
    """Returns the mark of a committed offset. An offset without our metadata was set by hand: everything before it
    counts as reported.
    """
    try:
        return msgspec.json.decode(known.metadata or "", type=Mark)
    except msgspec.DecodeError:
        return Mark(reported=known.offset, since=0)
