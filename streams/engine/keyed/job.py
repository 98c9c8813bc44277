"""The keyed job: state per key without windows, with timers, a time to live and transactional outputs, exactly once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weir.schemas.topic import Topic
from weir.streams.engine.core.job import Tally, TaskTopic
from weir.streams.engine.core.ledger import Routed
from weir.streams.engine.core.offset_metadata import read_metadata
from weir.streams.engine.core.records import Stage
from weir.streams.engine.input.source import SourceState, others_watermark
from weir.streams.engine.input.view_validation import ViewValidationStage
from weir.streams.engine.keyed.repartition import RepartitionStage, RepartitionState
from weir.streams.engine.keyed.spec import E, KeyedSpec, S
from weir.streams.engine.keyed.stage import KeyedStage, KeyedState, RoutedKeyedStage, RoutedKeyedState
from weir.streams.engine.state.tables import StateTable, open_table


@dataclass(frozen=True, kw_only=True)
class Keyed(KeyedSpec[E, S]):
    """Calls `process` with each element of topic `source`, in order, and with the state of the element's key.

    `key` gives an element's key, and `process` does the work through its `Context`; either raises PoisonError for an
    element that cannot be processed: it goes to the dead letters, and nothing that it did remains. `on_timer` is called
    with the name of a timer whose time has come. Any other exception ends the process. All three have to give the same
    for the same input: what was not committed is done again.

    `state` is the type of the state, one that msgspec can encode. A key's state is written as a whole whenever it
    changes, to `changelog` (compacted, internal), from which it is restored: keep it small. `ttl` (ms): a key that was
    not written for so long in event time, and has no timer, is dropped. `capacity`, which needs a `ttl`: the most keys
    that are kept, over all partitions. Each partition has the same share of it, rounded up; where it would have a key
    more, the one that would expire first is dropped with its timers (of several at once the first by name), be it the
    one that was just written. The worker's log, its `GET /health` and `weir ledger` tell how many were dropped.

    `outputs` are the topics that `process` may write to. Kafka refuses a record that is more than an hour ahead of its
    clock, unless the topic says otherwise: with a `max_skew` that comes near, each needs
    `weir.schemas.topic.ANY_TIMESTAMP`.

    `repartition` is an internal topic of the job's own, through which elements reach the partition that owns their key.
    None: the source's producers put all records of a key into one partition already. Then the order of its partition
    is the order of `process`; else it is the order of each source partition, one among the others. An element that with
    its keys does not fit into a record of `repartition` goes to the dead letters: let that topic take larger records
    than the source (`weir.schemas.topic.PARTIALS`).

    `max_skew` (ms): how far ahead of the clock an event may be where there are timers or a `ttl`; beyond, it is
    refused. Without them such an event is processed, and event time comes no further than that. No event is too late.
    `linger` (ms): as in `Windowed`. `view` is a topic that every worker holds whole before it looks at an event.
    `store`: where state is kept, "memory" or "rocksdb"; timers, and with a `ttl` the keys, are in memory either way.
    """

    @property
    def tasks(self) -> Sequence[TaskTopic]:
        if self.repartition is None:
            found = [TaskTopic(self.source, "process", self.changelog, source=True)]
        else:
            found = [
                TaskTopic(self.source, "route", source=True),
                TaskTopic(self.repartition, "process", self.changelog),
            ]
        return [*found, TaskTopic(self.view.topic, "validate")] if self.view is not None else found

    @property
    def writes(self) -> Sequence[Topic]:
        return [*([self.repartition] if self.repartition is not None else []), self.changelog, *self.outputs]

    @property
    def table(self) -> Topic | None:
        return self.changelog

    def shape(self, counts: Mapping[str, int]) -> Mapping[str, int]:
        if self.repartition is None:  # the source is not the job's to change
            return {self.changelog.name: counts[self.source.name]}
        own = (self.changelog.name, self.repartition.name)
        return dict.fromkeys(own, max(counts[name] for name in own))

    def open(
        self,
        topic: str,
        partition: int,
        counts: Mapping[str, int],
        now_ms: Callable[[], int],
        state: Path | None = None,
    ) -> Stage:
        sources = counts[self.source.name]
        if self.view is not None and topic == self.view.topic.name:
            decoder = self.view.topic.decoder()
            assert decoder is not None
            return ViewValidationStage(self.name, self.view.topic, decoder)
        if self.repartition is None:
            return KeyedStage(self, partition, self._open_table(state), self._share(sources), sources, now_ms)
        outputs = counts[self.repartition.name]
        if topic == self.source.name:
            return RepartitionStage(self, partition, sources, outputs, now_ms)
        table, share = self._open_table(state), self._share(outputs)
        return RoutedKeyedStage(self, partition, table, share, sources, outputs, now_ms)

    def _open_table(self, folder: Path | None) -> StateTable:
        return open_table(self.store, folder, bytes, bytes, str)

    def _share(self, partitions: int) -> float:
        """How many keys each of so many partitions may keep."""
        return math.inf if self.capacity is None else -(-self.capacity // partitions)

    def others(self, metadata: Sequence[str]) -> int | None:
        return others_watermark(map(self._source, metadata))

    def tally(self, committed: Mapping[str, Sequence[str]]) -> Tally:
        routed = sum((self._source(m).routed for m in committed[self.source.name]), Routed())
        if self.repartition is None:
            own = [read_metadata(m, KeyedState) for m in committed[self.source.name]]
            return Tally(routed, routed.counted, self._dropped(own))
        states = [read_metadata(m, RoutedKeyedState) for m in committed[self.repartition.name]]
        dead = sum(state.dead for state in states)  # of those that were sent on as good
        return Tally(
            Routed(routed.counted - dead, routed.late, routed.dead + dead),
            sum(state.merged for state in states),
            self._dropped(states),
        )

    def _dropped(self, states: Sequence[KeyedState | RoutedKeyedState]) -> int | None:
        return None if self.capacity is None else sum(state.dropped for state in states)

    def _source(self, metadata: str) -> SourceState:
        kind: Any = KeyedState if self.repartition is None else RepartitionState
        state: SourceState = read_metadata(metadata, kind).source
        return state
