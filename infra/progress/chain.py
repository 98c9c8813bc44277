"""A chain of readers from a source topic to an answer, and how far each has come: asked of the broker.

An event that Kafka has acknowledged goes through topics until an answer has it: a job's stage reads one, writes the
next, and commits both in one transaction. So how far an answer is behind its source is the sum of what each step has
not committed yet, and of what the results hold that the answer has not read yet.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from confluent_kafka import OFFSET_INVALID, Consumer, TopicPartition

from weir.infra.config import Config
from weir.infra.kafka import client as kafka
from weir.infra.kafka.partition_reader import END, FIRST, STABLE_END, PartitionOffsets
from weir.infra.kafka.unread import Unread
from weir.infra.progress.position import topic_number
from weir.schemas.topic import PartitionId

#: How long Kafka has for an answer, in seconds.
_PATIENCE = 5.0

#: Partition to offset.
Offsets = Mapping[int, int]


class Step(NamedTuple):
    """One reader in a chain: `group` is the consumer group that commits what it has read of `topic`."""

    group: str
    topic: str


class Chain(NamedTuple):
    """`steps` in the order in which an event passes them; `results` are the topics that the answer is made from.

    The names are weir's own, without `WEIR_TOPIC_PREFIX`. A chain without steps has its results as the source.
    """

    steps: Sequence[Step]
    results: Sequence[str]

    @property
    def source(self) -> str:
        """The topic that events come in by."""
        return self.steps[0].topic if self.steps else self.results[0]


@dataclass(frozen=True)
class ChainSurvey:
    """Offsets of a chain of jobs, read at one time; topics that do not exist have no entries.

    `asked`: when it began, in seconds, monotonic. `number` is the source's, as `weir.infra.progress.position` has it,
    and `source` its high watermarks. `reached` has of each step the offsets before which its group has committed every
    record, and `ends` the high watermarks of its topic. Of the results there are the high watermarks (`written`), the
    last stable offsets (`stable`), before which no transaction is open, and where known how far they are `stored`, as
    `reached`. `committed` has the offsets of all that are read as they stand, control records after them not passed
    over. All of `ends` and `written` is as of a moment after all of `reached`: what a step had committed then is in the
    next one's.
    """

    asked: float
    number: int | None
    source: Offsets
    reached: Sequence[Offsets]
    ends: Sequence[Offsets]
    written: Mapping[PartitionId, int]
    stable: Mapping[PartitionId, int]
    stored: Mapping[PartitionId, int] = field(default_factory=dict)
    committed: Mapping[PartitionId, int] = field(default_factory=dict)


class Surveyor:
    """Surveys one chain, for one thread at a time."""

    def __init__(self, config: Config, chain: Chain) -> None:
        self._config, self._chain = config, chain
        self._offsets = PartitionOffsets(config, _PATIENCE)
        self._unread = Unread(config)
        topics = [*(step.topic for step in chain.steps), *chain.results]
        self._names = {config.topic(topic): topic for topic in topics}
        self._consumers: dict[str, Consumer] = {}

    def ask(self, stored: Mapping[PartitionId, int] | None = None) -> ChainSurvey:
        """Blocks for a few round trips, and where offsets of no record may lie between for a short read.

        `stored`: how far the results are in the answer, where that is not in this process; asked before. Raises
        WeirError where Kafka does not answer.
        """
        asked = time.monotonic()
        with kafka.translated(self._config):
            described = self._offsets.topics(self._names.values())  # who writes to others has not begun
            places = {topic: range(found.partitions) for topic, found in described.items()}
            committed = self._committed(places)
            reading = [(step, p) for step in self._chain.steps for p in places.get(step.topic, ())]
            results = [(topic, p) for topic in self._chain.results for p in places.get(topic, ())]
            first = [(step.topic, p) for step, p in reading if (step, p) not in committed]
            every = [*((step.topic, p) for step, p in reading), *results]
            begin, end, last_stable = self._offsets.ask({FIRST: first, END: every, STABLE_END: results})
        at = {(s.topic, p): committed[s, p] if (s, p) in committed else begin[s.topic, p] for s, p in reading}
        if stored is not None:
            at |= {place: stored.get(place, 0) for place in results}
        with kafka.translated(self._config):
            reached = self._unread.following(at, end)
        source = self._chain.source
        known = described.get(source)
        return ChainSurvey(
            asked,
            None if known is None else topic_number(self._config.topic(source), known.id or ""),
            {p: end[source, p] for p in places.get(source, ())},
            [{p: reached[step.topic, p] for p in places.get(step.topic, ())} for step in self._chain.steps],
            [{p: end[step.topic, p] for p in places.get(step.topic, ())} for step in self._chain.steps],
            {place: end[place] for place in results},
            last_stable,
            {place: reached[place] for place in results} if stored is not None else {},
            at,
        )

    def _committed(self, places: Mapping[str, Sequence[int]]) -> dict[tuple[Step, int], int]:
        """The committed offsets, of the partitions that have one.

        Consumers are asked, which never join their groups. The admin client's `list_consumer_group_offsets` ends the
        process with a segmentation fault where a coordinator has just moved or starts (librdkafka issue 5040).
        """
        found = {}
        for group in dict.fromkeys(step.group for step in self._chain.steps):
            if group not in self._consumers:
                settings = {"isolation.level": "read_uncommitted"}
                self._consumers[group] = kafka.consumer(self._config, group, **settings)
            topics = [step.topic for step in self._chain.steps if step.group == group]
            wanted = [TopicPartition(self._config.topic(topic), p) for topic in topics for p in places.get(topic, ())]
            for partition in kafka.committed(self._consumers[group], wanted, _PATIENCE) if wanted else ():
                if partition.offset != OFFSET_INVALID:
                    found[Step(group, self._names[partition.topic]), partition.partition] = partition.offset
        return found
