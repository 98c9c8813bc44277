"""The windowed job: aggregates per key and window of event time, exactly once, in two stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from weir.schemas.topic import Topic
from weir.streams.engine.core.job import Tally, TaskTopic
from weir.streams.engine.core.ledger import Routed
from weir.streams.engine.core.offset_metadata import read_metadata
from weir.streams.engine.core.records import Stage
from weir.streams.engine.input.source import others_watermark
from weir.streams.engine.input.view_validation import ViewValidationStage
from weir.streams.engine.state.tables import open_table
from weir.streams.engine.windowed.combine import Combine, CombineState
from weir.streams.engine.windowed.merge_sessions import MergeSessions, SessionState
from weir.streams.engine.windowed.merge_windows import Merge, MergeState
from weir.streams.engine.windowed.spec import WindowedSpec
from weir.streams.engine.windowed.windows import SessionWindows


@dataclass(frozen=True, kw_only=True)
class Windowed(WindowedSpec):
    """Aggregates the events of topic `source` per key and window into topic `output`.

    `key` names the attributes of an element that are its key, or gives a key (a tuple of strings) for an element. Where
    that is not fast enough or needs the time, `keys` gives the keys of many elements at their timestamps (epoch ms).
    Both raise PoisonError for an element that has none. `keys` has to see to it that keys are of bounded length, and
    that an element that the topic's check refuses has none.

    An element's time is its record's timestamp; or `times` gives the times (whole epoch ms) of many elements, given
    their records' timestamps, and raises PoisonError where one has none. Then what is late, too far ahead of the clock,
    in which window, and how far event time has come goes by these times; `keys` gets them; of an array each element has
    its own; and what the records' own timestamps are does not matter, not even whether there are any.

    `aggregates` by name, as the results call them; none: events are counted. `partials` is an internal topic of the
    job's own with as many partitions as `output`. `changelog` is what state is restored from; None, which Emit.CLOSED
    does not allow: `output` itself, which saves a write for every change. `closings`: where each partition of the
    output says that it has closed a window, if anybody wants to know when a window is whole. `partials` and the topic
    that holds the state must take the largest that the state of a cell may become (`max.message.bytes`, 1 MiB where it
    is not set), and the latter must keep records for as long as windows are kept (`retention.ms`), or the job is
    refused: a `Distinct` from `lg_k` 18 on may be too large, or a `Quantiles` of `k` 43 000.

    `write` makes the records of a window's results of (window start, its end, keys with results, final); None: JSON,
    with the key's parts by the names that `key` gives. `read` makes (start, end, key, state) of a result again, where
    counts are all there is; None: the state travels in a header. `view` is a topic that every worker holds whole before
    it looks at an event.

    `max_skew` (ms): how far ahead of the clock an event may be. `linger` (ms): the pace of transactions under load: a
    part of it lies between two, and up to two seconds while much is left to be read. `store`: where stage two keeps its
    table, "memory" or "rocksdb"; what it does is the same.
    """

    @property
    def tasks(self) -> Sequence[TaskTopic]:
        found = [
            TaskTopic(self.source, "combine", source=True),
            TaskTopic(self.partials, "merge", self.changelog or self.output),
        ]
        return [*found, TaskTopic(self.view.topic, "validate")] if self.view is not None else found

    @property
    def writes(self) -> Sequence[Topic]:
        topics = (self.partials, self.changelog, self.output, self.closings)
        return [topic for topic in topics if topic is not None]

    @property
    def table(self) -> Topic | None:
        return self.output

    def shape(self, counts: Mapping[str, int]) -> Mapping[str, int]:
        return dict.fromkeys((topic.name for topic in self.writes), max(counts[topic.name] for topic in self.writes))

    def open(
        self,
        topic: str,
        partition: int,
        counts: Mapping[str, int],
        now_ms: Callable[[], int],
        state: Path | None = None,
    ) -> Stage:
        sources, outputs = counts[self.source.name], counts[self.partials.name]
        if topic == self.source.name:
            return Combine(self, partition, sources, outputs, now_ms)
        if topic == self.partials.name:
            if isinstance(self.windows, SessionWindows):
                return MergeSessions(self, self.windows, partition, sources, outputs)
            table = open_table(self.store, state, self.aggregation.dump, self.aggregation.load)
            return Merge(self, self.windows, table, partition, sources, outputs, now_ms())
        assert self.view is not None
        decoder = self.view.topic.decoder()
        assert decoder is not None
        return ViewValidationStage(self.name, self.view.topic, decoder)

    def others(self, metadata: Sequence[str]) -> int | None:
        return others_watermark(read_metadata(m, CombineState).source for m in metadata)

    def tally(self, committed: Mapping[str, Sequence[str]]) -> Tally:
        routed = (read_metadata(m, CombineState).source.routed for m in committed[self.source.name])
        state: type[SessionState | MergeState] = MergeState if self.windows.aligned else SessionState
        merged = (read_metadata(m, state).counted for m in committed[self.partials.name])
        return Tally(sum(routed, Routed()), sum(merged))
