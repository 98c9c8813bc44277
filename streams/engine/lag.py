"""How far a job is behind: what its topics hold that its group has not committed, asked of the broker."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

from infra import kafka
from infra.config import Config
from infra.shared import Shared
from infra.threads import in_daemon
from streams.engine.offsets import Group, answer

#: How old an answer may be, in seconds.
FRESH_S = 1.0
#: Of more offsets than this beyond the committed one, nobody looks which are records: most of them must be.
FEW = 1000
#: How long the next record of each partition is looked for.
PATIENCE_S = 3.0

Partition = tuple[str, int]


class Place(NamedTuple):
    """How far the group is in one partition, and how many of its records lie beyond."""

    committed: int
    behind: int


class Lag:
    """The places of a job's group in some of its topics; asked from one event loop.

    Between the committed offset and the end there may be no record but the marker that ends a transaction. So where
    they are near each other, the next record is looked for: what counts is how many offsets there are from that on.
    """

    def __init__(self, config: Config, job: str, topics: Mapping[str, int]) -> None:
        self._config, self._topics = config, topics
        self._group = Group(config, job)
        self._admin = kafka.admin(config)
        self._reader: Consumer | None = None
        self._places = Shared(lambda: in_daemon(self._ask))

    async def places(self) -> Mapping[Partition, Place]:
        """Of every partition, as of at most a second ago. Raises WeirError where Kafka does not answer."""
        return await self._places.get(FRESH_S)

    def _ask(self) -> dict[Partition, Place]:
        committed: dict[Partition, int] = {}
        for topic, partitions in self._topics.items():
            known = self._group.committed(topic, partitions)
            for partition in range(partitions):
                found = known.get(partition)
                committed[topic, partition] = found[0] if found is not None else self._group.ends(topic, partition)[0]
        ends = self._ends()
        after = {p: (at, ends[p]) for p, at in committed.items() if at < ends[p] <= at + FEW}
        following = self._next_records(after)
        return {p: Place(at, max(0, ends[p] - following.get(p, at))) for p, at in committed.items()}

    def _ends(self) -> dict[Partition, int]:
        """The high watermarks."""
        latest: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        wanted = {self._named(p): latest for p in self._all()}
        found = answer(lambda: {tp: f.result() for tp, f in self._admin.list_offsets(wanted).items()})
        return {own: found[self._named(own)].offset for own in self._all()}

    def _next_records(self, after: Mapping[Partition, tuple[int, int]]) -> dict[Partition, int]:
        """Of each partition, given an offset and its end: where the first record from there on is, or where there is
        none any more. A partition of which that was not to be seen in time is left out.
        """
        if not after:
            return {}
        if self._reader is None:
            few = {"queued.min.messages": 1, "fetch.message.max.bytes": 1 << 16, "fetch.wait.max.ms": 10}
            self._reader = kafka.consumer(self._config, None, **{"enable.partition.eof": True, **few})
        self._reader.assign([self._named(own, at) for own, (at, _) in after.items()])
        names = {(self._config.topic(topic), p): (topic, p) for topic, p in after}
        found: dict[Partition, int] = {}
        deadline = time.monotonic() + PATIENCE_S
        while len(found) < len(after) and time.monotonic() < deadline:
            messages: list[Any] = self._reader.consume(1000, 0.02)
            for message in messages:
                error = message.error()
                if error is None or error.code() == KafkaError._PARTITION_EOF:
                    found.setdefault(names[message.topic(), message.partition()], message.offset())
        self._reader.unassign()
        return found

    def _all(self) -> list[Partition]:
        return [(topic, p) for topic, partitions in self._topics.items() for p in range(partitions)]

    def _named(self, partition: Partition, offset: int = -1001) -> TopicPartition:
        return TopicPartition(self._config.topic(partition[0]), partition[1], offset)
