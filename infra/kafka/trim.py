"""Deleting the beginning of a topic: how far, what would be lost by it, and the deletion itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from confluent_kafka import TopicPartition

from weir.infra.config import Config
from weir.infra.kafka import client as kafka
from weir.infra.kafka.partition_reader import OffsetRange, PartitionOffsets, since
from weir.infra.kafka.topic_reader import PATIENCE_S
from weir.schemas.errors import WeirError
from weir.schemas.topic import Topic


class TrimRange(NamedTuple):
    """Range of a partition to be deleted: the offsets from `first` up to `to`; those from `to` up to `end` stay."""

    partition: int
    first: int
    to: int
    end: int


class Hold(NamedTuple):
    """Somebody still needs a partition from `offset` on; `why` says who, and for what.

    `position`, where that is less: the offset that a reader goes on from. Only control records (KIP-98) lie between, so
    nothing would be lost by deleting them; but the reader finds its place again only where the log still has it.
    """

    partition: int
    offset: int
    why: str
    position: int | None = None


def keeping(edges: Mapping[int, OffsetRange], last: int) -> list[TrimRange]:
    """The cuts that leave the `last` offsets of each partition. Markers of transactions have offsets, too.

    >>> keeping({0: OffsetRange(10, 100), 1: OffsetRange(0, 5)}, 20)
    [TrimRange(partition=0, first=10, to=80, end=100), TrimRange(partition=1, first=0, to=0, end=5)]
    """
    return [TrimRange(p, first, max(first, end - last), end) for p, (first, end) in sorted(edges.items())]


def before(edges: Mapping[int, OffsetRange], starts: Mapping[int, int]) -> list[TrimRange]:
    """The cuts up to the offset that `starts` has for each partition, or up to its end where that is -1.

    >>> before({0: OffsetRange(10, 100), 1: OffsetRange(0, 5)}, {0: 40, 1: -1})
    [TrimRange(partition=0, first=10, to=40, end=100), TrimRange(partition=1, first=0, to=5, end=5)]
    """
    found = []
    for p, (first, end) in sorted(edges.items()):
        start = starts[p] if starts[p] >= 0 else end
        found.append(TrimRange(p, first, min(max(first, start), end), end))
    return found


def held(cuts: Iterable[TrimRange], holds: Iterable[Hold]) -> list[Hold]:
    """The holds that the cuts go beyond; a cut that deletes nothing goes beyond none.

    >>> held([TrimRange(0, 10, 80, 100)], [Hold(0, 79, "a"), Hold(0, 80, "b"), Hold(1, 0, "c")])
    [Hold(partition=0, offset=79, why='a', position=None)]
    """
    to = {cut.partition: cut.to for cut in cuts if cut.to > cut.first}
    return [hold for hold in holds if hold.offset < to.get(hold.partition, 0)]


def lowered(cuts: Iterable[TrimRange], holds: Iterable[Hold]) -> list[TrimRange]:
    """The cuts, none beyond a position that a hold names.

    >>> lowered([TrimRange(0, 10, 100, 100)], [Hold(0, 100, "a", 99)])
    [TrimRange(partition=0, first=10, to=99, end=100)]
    """
    most: dict[int, int] = {}
    for hold in holds:
        if hold.position is not None:
            most[hold.partition] = min(most.get(hold.partition, hold.position), hold.position)
    return [cut._replace(to=max(cut.first, min(cut.to, most.get(cut.partition, cut.to)))) for cut in cuts]


def check_policy(topic: Topic) -> None:
    """Raises WeirError for a topic that is only compacted: Kafka deletes nothing of those, whoever asks (KIP-107)."""
    if "delete" not in topic.config.get("cleanup.policy", "delete").split(","):
        raise WeirError(f"{topic.name} is compacted (it keeps the latest record per key), so it cannot be trimmed")


class Trimmer:
    """Asks and trims one topic. Every method blocks, and raises KafkaUnavailableError."""

    def __init__(self, config: Config, topic: Topic) -> None:
        self._config, self._topic = config, topic.name
        self._offsets = PartitionOffsets(config, PATIENCE_S)

    def edges(self) -> dict[int, OffsetRange]:
        """Where each partition begins, and its last stable offset: what is settled to stay ends there."""
        return {p: edges for (_, p), edges in self._offsets.edges([self._topic]).items()}

    def starts(self, partitions: Iterable[int], epoch_ms: int) -> dict[int, int]:
        """The first offset of each partition whose record is of that time or later; -1 where there is none."""
        [found] = self._offsets.ask({since(epoch_ms): [(self._topic, p) for p in partitions]})
        return {p: offset for (_, p), offset in found.items()}

    def delete(self, cuts: Iterable[TrimRange]) -> int:
        """Deletes (KIP-107), and returns how many offsets that were. A cut that deletes nothing is left out."""
        wanted = {cut.partition: cut for cut in cuts if cut.to > cut.first}
        places = [TopicPartition(self._config.topic(self._topic), cut.partition, cut.to) for cut in wanted.values()]
        if not places:
            return 0
        client = kafka.admin(self._config)  # by name: without it there is nobody to hear the answer
        with kafka.translated(self._config):
            for answer in client.delete_records(places, request_timeout=PATIENCE_S).values():
                answer.result()
        return sum(cut.to - cut.first for cut in wanted.values())
