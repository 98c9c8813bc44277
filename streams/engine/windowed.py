"""The windowed job: aggregates per key and window of event time, exactly once, in two stages."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

from schemas.codec import Decoder
from schemas.dead_letters import Reason
from schemas.errors import PoisonError
from schemas.topic import Topic
from streams.engine.aggregates import Aggregate
from streams.engine.aggregation import Aggregation, Counts, Key, Several
from streams.engine.combine import Combine, CombineState
from streams.engine.errors import EngineError
from streams.engine.job import Tally, TaskTopic, View
from streams.engine.ledger import Routed
from streams.engine.merge import Merge, MergeState
from streams.engine.metadata import read_metadata
from streams.engine.partials import ROOM
from streams.engine.records import FRAME, Record, Stage, largest
from streams.engine.rows import State, Write, read_state, writer
from streams.engine.screen import Screen
from streams.engine.sessions import MergeSessions, SessionState
from streams.engine.source import others_watermark
from streams.engine.tables import STORES, open_table
from streams.engine.windows import SessionWindows, Windows

#: How long a key may be, all its parts together, in characters: 2 000 of them fit a partial.
KEY = 1024


class Emit(enum.Enum):
    """When results are written."""

    CHANGES = "changes"  # at every flush, those that changed; once more, final, when the window closes
    CLOSED = "closed"  # when the window closes; after it, only where a late event revises a result


@dataclass(frozen=True, kw_only=True)
class Windowed:
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
    is not set), or the job is refused: a `Distinct` from `lg_k` 18 on may be too large, or a `Quantiles` of `k` 43 000.

    `write` makes the records of a window's results of (window start, its end, keys with results, final); None: JSON,
    with the key's parts by the names that `key` gives. `read` makes (start, end, key, state) of a result again, where
    counts are all there is; None: the state travels in a header. `view` is a topic that every worker holds whole before
    it looks at an event.

    `max_skew` (ms): how far ahead of the clock an event may be. `linger` (ms): the pace of transactions under load: a
    part of it lies between two, and up to two seconds while much is left to be read. `store`: where stage two keeps its
    table, "memory" or "rocksdb"; what it does is the same.
    """

    name: str
    source: Topic
    windows: Windows | SessionWindows
    partials: Topic
    output: Topic
    key: Sequence[str] | Callable[[Any], Key] | None = None
    keys: Callable[[Sequence[Any], Sequence[int]], Sequence[Key]] | None = None
    times: Callable[[Sequence[Any], Sequence[int]], Sequence[int]] | None = None
    aggregates: Mapping[str, Aggregate] = field(default_factory=dict)
    changelog: Topic | None = None
    closings: Topic | None = None
    write: Write | None = None
    read: Callable[[Record], State] | None = None
    emit: Emit = Emit.CHANGES
    view: View | None = None
    max_skew: int = 300_000
    linger: int = 200
    store: str = "memory"

    def __post_init__(self) -> None:
        if (self.key is None) == (self.keys is None):
            raise ValueError(f"job {self.name}: give either key or keys")
        if isinstance(self.key, str) or self.key == []:
            raise ValueError(f"job {self.name}: key is a list of attributes, not {self.key!r}")
        if self.source.value is None:
            raise ValueError(f"job {self.name}: topic {self.source.name} has no type to decode")
        if self.emit is Emit.CLOSED and self.changelog is None:
            raise ValueError(f"job {self.name}: results on close alone hold no state, so it needs a changelog")
        if self.read is not None and (self.aggregates or self.changelog):
            raise ValueError(f"job {self.name}: only counts can be read from results")
        if self.closings is not None and isinstance(self.windows, SessionWindows):
            raise ValueError(f"job {self.name}: sessions close one by one, so there are no closings")
        if self.write is None and (clashes := self._clashes()):
            raise ValueError(f"job {self.name}: results cannot have two fields of one name: {', '.join(clashes)}")
        if self.store not in STORES:
            raise ValueError(f"job {self.name}: there is no store {self.store!r}")
        if self.store != "memory" and isinstance(self.windows, SessionWindows):
            raise ValueError(f"job {self.name}: sessions are kept in memory")
        most = self.aggregation.size + 16 * KEY + FRAME  # the key stands there up to three times, in JSON with escapes
        for topic in (self.partials, self.changelog or (self.output if self.states_in_headers else None)):
            if topic is not None and most > largest(topic):
                raise ValueError(
                    f"job {self.name}: a cell of these aggregates may take {most} bytes, and topic {topic.name} takes "
                    f"{largest(topic)} (max.message.bytes)"
                )

    def _clashes(self) -> list[str]:
        """The names that a result as `writer` writes it would have twice."""
        own = ["window", "final", *(["key"] if self.key is None or callable(self.key) else self.key)]
        names = [*own, *(self.aggregates or ["count"])]
        return sorted({name for name in names if names.count(name) > 1})

    @cached_property
    def decoder(self) -> Decoder[Any]:
        """What turns the source's records into elements."""
        decoder = self.source.decoder()
        assert decoder is not None
        return decoder

    @cached_property
    def aggregation(self) -> Aggregation:
        """The aggregates as one."""
        return Several(self.aggregates) if self.aggregates else Counts()

    @cached_property
    def times_of(self) -> Callable[[Sequence[Any], Sequence[int]], Sequence[int]] | None:
        """The times of elements at their records' timestamps; None: those are the times."""
        return None if self.times is None else _whole(self.times)

    @cached_property
    def keys_of(self) -> Callable[[Sequence[Any], Sequence[int]], Sequence[Key]]:
        """The keys of elements at their times."""
        if self.keys is not None:
            return self.keys
        assert self.key is not None
        if callable(self.key):
            return _bounded(self.key)
        if len(self.key) == 1:
            return _bounded(lambda element, get=attrgetter(*self.key): (get(element),))  # type: ignore[misc]
        return _bounded(attrgetter(*self.key))

    @cached_property
    def check_all(self) -> Callable[[Sequence[Any]], None]:
        """Raises ValueError where the source's check refuses one of the elements, if `keys` does not see to that."""
        check = self.source.check
        if check is None or self.keys is not None:
            return lambda elements: None

        def check_all(elements: Sequence[Any]) -> None:
            for element in elements:
                check(element)

        return check_all

    @cached_property
    def starts(self) -> Callable[[int], Sequence[int]]:
        """The windows of a pane; sessions are all in one."""
        return (lambda pane: (pane,)) if isinstance(self.windows, SessionWindows) else self.windows.starts

    @cached_property
    def events(self) -> Callable[[Iterable[Any]], int]:
        """How many events are in plain states, of which each is a list of sessions where windows are that."""
        events = self.aggregation.events
        if isinstance(self.windows, SessionWindows):
            return lambda plain: events(one for sessions in plain for _, _, one in sessions)
        return events

    @cached_property
    def weigh(self) -> Callable[[Any], int] | None:
        """What plain states weigh in a partial; None: 1 each."""
        weight = self.aggregation.weight
        if isinstance(self.windows, SessionWindows):
            return lambda sessions: sum(weight(one) for _, _, one in sessions)
        return weight if self.aggregates else None

    @cached_property
    def cut(self) -> Callable[[Any], Iterable[Any]] | None:
        """Makes lists of sessions that fit a partial of a long one; stage two has them as one again."""
        if not isinstance(self.windows, SessionWindows):
            return None
        weight = self.aggregation.weight

        def cut(sessions: list[Any]) -> Iterable[list[Any]]:
            begin = total = 0
            for at, (_, _, one) in enumerate(sessions):
                if total and total + weight(one) > ROOM:
                    yield sessions[begin:at]
                    begin, total = at, 0
                total += weight(one)
            yield sessions[begin:]

        return cut

    @property
    def emits_on_close(self) -> bool:
        """Whether a result is written only when its window closes."""
        return self.emit is Emit.CLOSED

    @property
    def states_in_headers(self) -> bool:
        """Whether a result carries its cell's state, for want of a changelog and of a value that says it."""
        return self.changelog is None and self.read is None

    @cached_property
    def writes_cells(self) -> Write:
        """Key and value of a result's record."""
        names = None if self.key is None or callable(self.key) else list(self.key)
        return self.write or writer(names)

    @cached_property
    def reads_cells(self) -> Callable[[Record], State]:
        """A record of the changelog as the cell that it holds."""
        return self.read or read_state

    # What follows is what the engine asks of any job.

    @property
    def tasks(self) -> Sequence[TaskTopic]:
        found = [
            TaskTopic(self.source, "combine", source=True),
            TaskTopic(self.partials, "merge", self.changelog or self.output),
        ]
        return [*found, TaskTopic(self.view.topic, "screen")] if self.view is not None else found

    @property
    def writes(self) -> Sequence[Topic]:
        wanted = (self.partials, self.changelog, self.output, self.closings)
        return [topic for topic in wanted if topic is not None]

    @property
    def table(self) -> Topic | None:
        return self.output

    def check(self, counts: Mapping[str, int]) -> None:
        for topic in self.writes:
            if counts[topic.name] != counts[self.partials.name]:
                raise EngineError(
                    f"topics {topic.name} and {self.partials.name} must have the same number of partitions"
                )

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
        return Screen(self.name, self.view.topic, decoder)

    def others(self, metadata: Sequence[str]) -> int | None:
        return others_watermark(read_metadata(m, CombineState).source for m in metadata)

    def tally(self, committed: Mapping[str, Sequence[str]]) -> Tally:
        routed = (read_metadata(m, CombineState).source.routed for m in committed[self.source.name])
        state: type[SessionState | MergeState] = MergeState
        if isinstance(self.windows, SessionWindows):
            state = SessionState
        merged = (read_metadata(m, state).counted for m in committed[self.partials.name])
        return Tally(sum(routed, Routed()), sum(merged))


def _bounded(key: Callable[[Any], Any]) -> Callable[[Sequence[Any], Sequence[int]], Sequence[Key]]:
    def keys(elements: Sequence[Any], timestamps: Sequence[int]) -> Sequence[Key]:
        found = [key(element) for element in elements]
        if not all(issubclass(kind, tuple) for kind in set(map(type, found))):  # stage two could never read it
            raise EngineError(f"a key is a tuple of texts, not {next(k for k in found if not isinstance(k, tuple))!r}")
        try:
            longest = max(map(len, map("".join, found)))
        except TypeError as e:
            raise PoisonError(Reason.INVALID, f"the parts of a key are texts: {e}") from e
        if longest > KEY:
            raise PoisonError(Reason.INVALID, f"the key is longer than {KEY} characters")
        return found

    return keys


def _whole(times: Callable[[Sequence[Any], Sequence[int]], Sequence[int]]) -> Callable[..., Sequence[int]]:
    def checked(elements: Sequence[Any], timestamps: Sequence[int]) -> Sequence[int]:
        found = times(elements, timestamps)
        if len(found) != len(elements):
            raise EngineError(f"{len(elements)} elements have as many times, not {len(found)}")
        if set(map(type, found)) != {int}:  # a window must not begin at a fraction
            raise EngineError(f"a time is in whole milliseconds, not {next(t for t in found if type(t) is not int)!r}")
        return found

    return checked
