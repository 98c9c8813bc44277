"""Deleting the beginning of a topic: how far, what would be lost by it, and the deletion itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import TopicPartition

from infra import kafka
from infra.config import Config
from infra.topic_reader import PATIENCE_S
from schemas.errors import WeirError
from schemas.topic import Topic


class Edges(NamedTuple):
    """A partition's first offset, and its end: the offset after the last record of which it is settled that it stays
    (the last stable offset, KIP-98)."""

    first: int
    end: int


class Cut(NamedTuple):
    """Of one partition, the offsets from `first` up to `to` are deleted, those from `to` up to `end` stay."""

    partition: int
    first: int
    to: int
    end: int


class Hold(NamedTuple):
    """Somebody still needs a partition from `offset` on; `why` says who, and for what."""

    partition: int
    offset: int
    why: str


def keeping(edges: Mapping[int, Edges], last: int) -> list[Cut]:
    """The cuts that leave the `last` offsets of each partition. Markers of transactions have offsets, too.

    >>> keeping({0: Edges(10, 100), 1: Edges(0, 5)}, 20)
    [Cut(partition=0, first=10, to=80, end=100), Cut(partition=1, first=0, to=0, end=5)]
    """
    return [Cut(p, first, max(first, end - last), end) for p, (first, end) in sorted(edges.items())]


def before(edges: Mapping[int, Edges], starts: Mapping[int, int]) -> list[Cut]:
    """The cuts up to the offset that `starts` has for each partition, or up to its end where that is -1.

    >>> before({0: Edges(10, 100), 1: Edges(0, 5)}, {0: 40, 1: -1})
    [Cut(partition=0, first=10, to=40, end=100), Cut(partition=1, first=0, to=5, end=5)]
    """
    found = []
    for p, (first, end) in sorted(edges.items()):
        start = starts[p] if starts[p] >= 0 else end
        found.append(Cut(p, first, min(max(first, start), end), end))
    return found


def held(cuts: Iterable[Cut], holds: Iterable[Hold]) -> list[Hold]:
    """The holds that the cuts go beyond; a cut that deletes nothing goes beyond none.

    >>> held([Cut(0, 10, 80, 100)], [Hold(0, 79, "a"), Hold(0, 80, "b"), Hold(1, 0, "c")])
    [Hold(partition=0, offset=79, why='a')]
    """
    to = {cut.partition: cut.to for cut in cuts if cut.to > cut.first}
    return [hold for hold in holds if hold.offset < to.get(hold.partition, 0)]


def check_policy(topic: Topic) -> None:
    """Raises WeirError for a topic that is only compacted: Kafka deletes nothing of those, whoever asks (KIP-107)."""
    if "delete" not in topic.config.get("cleanup.policy", "delete").split(","):
        raise WeirError(f"{topic.name} keeps the latest per key and nothing else, so there is no beginning to delete")


class Trimmer:
    """Asks and trims one topic. A context manager. Every method blocks, and raises KafkaUnavailableError; opening it
    raises WeirError where the broker has no such topic."""

    def __init__(self, config: Config, topic: Topic) -> None:
        self._config, self._name = config, config.topic(topic.name)
        self._consumer = kafka.consumer(config)

    def __enter__(self) -> Trimmer:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def edges(self) -> dict[int, Edges]:
        """Where each partition begins and ends now."""
        with kafka.translated():
            found = self._consumer.list_topics(self._name, PATIENCE_S).topics[self._name]
            if found.error is not None:
                raise WeirError(f"Kafka has no topic {self._name}: {found.error.str()}")
            return {p: self._edges(p) for p in sorted(found.partitions)}

    def _edges(self, partition: int) -> Edges:
        first, end = self._consumer.get_watermark_offsets(TopicPartition(self._name, partition), timeout=PATIENCE_S)
        return Edges(first, end)

    def starts(self, partitions: Sequence[int], epoch_ms: int) -> dict[int, int]:
        """The first offset of each partition whose record is of that time or later; -1 where there is none."""
        wanted = [TopicPartition(self._name, p, epoch_ms) for p in partitions]
        with kafka.translated():
            found = self._consumer.offsets_for_times(wanted, timeout=PATIENCE_S)
        for place in found:
            if place.error is not None:
                raise kafka.translate(place.error)
        return {place.partition: place.offset for place in found}

    def delete(self, cuts: Iterable[Cut]) -> int:
        """Deletes (KIP-107), and returns how many offsets that were. A cut that deletes nothing is left out."""
        wanted = {cut.partition: cut for cut in cuts if cut.to > cut.first}
        places = [TopicPartition(self._name, cut.partition, cut.to) for cut in wanted.values()]
        if not places:
            return 0
        client = kafka.admin(self._config)  # by name: without it there is nobody to hear the answer
        with kafka.translated():
            for answer in client.delete_records(places, request_timeout=PATIENCE_S).values():
                answer.result()
        return sum(cut.to - cut.first for cut in wanted.values())
