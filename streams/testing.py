"""A stream job without a broker: records in, results out, in milliseconds.

`Harness` runs the same stages that a worker runs, over topics that are lists. What it leaves out is the transport:
Faust's membership, librdkafka, the broker's transactions. A flush commits whole or, with `crash`, not at all.

    >>> from weir.infra.config import Config
    >>> from weir.streams.jobs import links
    >>> h = Harness(links.job(Config()))
    >>> h.send("relations", {"parent": "shop", "child": "cart-1"}, timestamp=0)
    >>> h.send("communications", {"source": "cart-1", "destination": "cart-1"}, timestamp=1_000)
    >>> h.run()
    >>> [r["count"] for r in h.values("link-counts")]
    [1]
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import msgspec

from weir.schemas.dead_letters import Headers
from weir.streams.engine.core.job import Job
from weir.streams.engine.core.ledger import Routed
from weir.streams.engine.core.records import FROM_START, STATE, FlushBatch, Stage


@dataclass(frozen=True)
class FakeRecord:
    """A record of an in-memory topic, with confluent_kafka.Message's methods."""

    _topic: str
    _partition: int
    _offset: int
    _key: bytes | None
    _value: bytes | None
    _timestamp: int
    _headers: Headers | None = None

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> Headers | None:
        return self._headers

    def timestamp(self) -> tuple[int, int]:
        return (1 if self._timestamp >= 0 else 0), self._timestamp


@dataclass
class _Task:
    stage: Stage
    position: int


@dataclass
class Harness:
    """One job over in-memory topics, with `partitions` of the source and of the partials.

    `now_ms` is the wall clock (epoch ms) that timestamps are held against; it stands still unless `advance` moves it.
    """

    job: Job
    partitions: int = 1
    now_ms: int = 1 << 41
    topics: dict[tuple[str, int], list[FakeRecord]] = field(default_factory=lambda: defaultdict(list))
    committed: dict[tuple[str, int], tuple[int, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._tasks: dict[tuple[str, int], _Task] = {}
        self._last_event: dict[tuple[str, int], int] = {}
        self._viewed = 0

    def send(
        self,
        topic: str,
        value: Any,
        timestamp: int,
        partition: int = 0,
        key: bytes | None = None,
        headers: Headers | None = None,
    ) -> None:
        """Puts a record on a topic; `value` as it is where it is bytes or None, else as JSON."""
        raw = value if value is None or isinstance(value, bytes) else msgspec.json.encode(value)
        log = self.topics[topic, partition]
        log.append(FakeRecord(topic, partition, len(log), key, raw, timestamp, headers))

    def advance(self, milliseconds: int) -> None:
        """Lets time pass."""
        self.now_ms += milliseconds

    def run(self, slice_size: int = 10_000) -> None:
        """Processes and flushes until nothing is left, then lets the idle partitions say so."""
        while self.step(slice_size=slice_size):
            pass
        for key in self._keys():
            self.idle(*key)
        while self.step(slice_size=slice_size):
            pass

    def step(self, slice_size: int = 10_000) -> bool:
        """One slice and one flush of every task; False where none had anything to read."""
        read = [key for key in self._keys() if self.process(*key, slice_size)]
        for key in read:
            self.flush(*key)
        return bool(read)

    def process(self, topic: str, partition: int, slice_size: int = 10_000) -> bool:
        """The next slice of one task, not flushed yet; False where there is none."""
        if self.job.view is not None:
            log = self.topics[self.job.view.topic.name, 0]
            self.job.view.apply(log[self._viewed :])
            self._viewed = len(log)
        task = self._task(topic, partition)
        records = self.topics[topic, partition][task.position : task.position + slice_size]
        if not records:
            return False
        task.stage.process(records)
        task.position += len(records)
        self._last_event[topic, partition] = self.now_ms
        return True

    def flush(self, topic: str, partition: int) -> None:
        """Commits what one task has: its output and its position, together."""
        task = self._task(topic, partition)
        changelog = self._changelog(topic)
        batch = task.stage.take(len(self.topics[changelog, partition]) if changelog else 0)
        if batch is not None:
            self._commit(batch, (topic, partition), task.position)
            task.stage.committed()

    def idle(self, topic: str, partition: int) -> None:
        """The task finds that its partition has nothing more, says so, and flushes."""
        task = self._task(topic, partition)
        if task.position < len(self.topics[topic, partition]):
            return
        elapsed = self.now_ms - self._last_event[topic, partition]
        task.stage.caught_up(elapsed, self._others(partition) if topic == self.job.source.name else None)
        self.flush(topic, partition)

    def crash(self, topic: str | None = None, partition: int | None = None) -> None:
        """Drops the tasks' memory (all of them, or one): each starts again from what was committed."""
        for key in list(self._tasks):
            if topic is None or key == (topic, partition):
                self._tasks.pop(key).stage.close()

    def records(self, topic: str) -> list[FakeRecord]:
        """A topic's records, partition by partition."""
        return [r for (name, _), log in sorted(self.topics.items()) if name == topic for r in log]

    def values(self, topic: str) -> list[Any]:
        """A topic's values, from JSON."""
        return [msgspec.json.decode(r.value() or b"null") for r in self.records(topic)]

    def latest(self, topic: str) -> dict[bytes, Any]:
        """The latest value per key, from JSON."""
        return {r.key() or b"": msgspec.json.decode(r.value() or b"null") for r in self.records(topic)}

    @property
    def routed(self) -> Routed:
        """Returns how many events of the source were counted, late and dead, over all partitions, as committed."""
        return self.job.tally(self._metadata()).routed

    @property
    def counted(self) -> int:
        """How many events are in the table, as committed."""
        return self.job.tally(self._metadata()).merged

    @property
    def dropped(self) -> int | None:
        """How many keys had to go for want of room, as committed; None where the job has no capacity."""
        return self.job.tally(self._metadata()).dropped

    def stage(self, topic: str, partition: int) -> Stage:
        """The stage of a task, with all that it has processed."""
        return self._task(topic, partition).stage

    def _metadata(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {task.topic.name: [] for task in self.job.tasks}
        for (topic, _), (_, metadata) in self.committed.items():
            found[topic].append(metadata)
        return found

    def _keys(self) -> list[tuple[str, int]]:
        tasks = {task.topic.name: task.topic.partitions or self.partitions for task in self.job.tasks}
        view = self.job.view.topic.name if self.job.view is not None else None
        names = sorted(tasks, key=lambda name: name != view)  # the view first, the rest as the job has them
        return [(name, p) for name in names for p in range(tasks[name])]

    def _task(self, topic: str, partition: int) -> _Task:
        if (topic, partition) not in self._tasks:
            offset, metadata = self.committed.get((topic, partition), (0, None))
            topics = [task.topic for task in self.job.tasks] + list(self.job.writes)
            counts = {t.name: t.partitions or self.partitions for t in topics}
            stage = self.job.open(topic, partition, counts, lambda: self.now_ms)
            stage.restore(metadata)
            if metadata is not None and stage.restore_from is not None:
                changelog = self._changelog(topic)
                assert changelog is not None
                start = 0 if stage.restore_from == FROM_START else stage.restore_from
                stage.restore_cells(self.topics[changelog, partition][start:])
            self._tasks[topic, partition] = _Task(stage, offset)
            self._last_event[topic, partition] = self.now_ms
        return self._tasks[topic, partition]

    def _changelog(self, topic: str) -> str | None:
        found = next(task.changelog for task in self.job.tasks if task.topic.name == topic)
        return None if found is None else found.name

    def _commit(self, batch: FlushBatch, key: tuple[str, int], position: int) -> None:
        for produce in batch.produce:
            topic, value, record_key, partition, headers, timestamp = produce
            self._append(topic, max(partition, 0), record_key, value, headers, timestamp)
        for bulk in batch.bulks:
            for at, (cell, value) in enumerate(bulk.records):
                state: Headers | None = None if bulk.states is None else [(STATE, bulk.states[at])]
                self._append(bulk.topic, bulk.partition, cell, value, state)
        self.committed[key] = position, batch.metadata

    def _append(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        timestamp: int | None = None,
    ) -> None:
        log = self.topics[topic, partition]
        log.append(
            FakeRecord(topic, partition, len(log), key, value, self.now_ms if timestamp is None else timestamp, headers)
        )

    def _others(self, partition: int) -> int | None:
        source = self.job.source.name
        return self.job.others(
            [m for (topic, p), (_, m) in self.committed.items() if topic == source and p != partition]
        )
