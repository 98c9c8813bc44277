"""A view's topic: read whole by every worker (Kafka Streams: global table), and caught up before each slice."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from weir.infra.config import Config
from weir.infra.errors import OffsetLostError, StoppedError
from weir.infra.kafka.client import consumer
from weir.infra.kafka.partition_reader import PartitionReader, edges
from weir.infra.log import get_logger
from weir.schemas.topic import PartitionId
from weir.streams.engine.core.job import CompactedView, View
from weir.streams.engine.core.records import COMPACTED
from weir.streams.engine.progress.offsets import Group, answer
from weir.streams.engine.progress.waits import ASK_S, QUIET_S, Blocked, Waits

#: How long a transaction that is open has to end before a slice is processed without it, in seconds. A commit is
#: acknowledged before its markers are written (KIP-98), and only they make its records readable.
ENDING_S = 1.0

log = get_logger(__name__)


class ViewReader:
    """Keeps a `View` up to date. Used by one thread alone. `stopped` says whether nobody wants it any more."""

    def __init__(
        self, config: Config, group: Group, view: View, waits: Waits, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self._config, self._group, self._view, self._stopped = config, group, view, stopped
        self._topic = view.topic.name
        self._blocked = Blocked(waits)
        self._passed: dict[int, int] = {}  # partitions gone on without: the last stable offset then
        # The partition and offset at which an open transaction begins, and whether a compaction's does.
        self._first_of_open: tuple[tuple[int, int], bool] = (-1, -1), False
        self._reader = PartitionReader(config, None, {"fetch.wait.max.ms": 50}, lambda *_: None)
        self._places = [(self._topic, p) for p in range(group.partitions(self._topic))]
        self._from_the_beginning()

    @property
    def is_behind(self) -> bool:
        """Whether it was gone on without what follows on an open transaction."""
        return bool(self._passed)

    def catch_up(self) -> None:
        """Reads all that can be read: up to the high watermark as of this call, or to the last stable offset where a
        transaction stays open for `ENDING_S`.

        What was acknowledged before this call is in the view then: to a transactional producer, that is what it has
        committed. Only what lies behind somebody's open transaction is not, whoever wrote it: no consumer of committed
        records is given that. The transaction of weir's own compaction is waited for to its end, since it must hide
        nothing. Raises KafkaUnavailableError, and StoppedError as `stopped` says.
        """
        for place in self._places:
            partition = place[1]
            end = self._group.ends(self._topic, partition, ASK_S).end
            if self._reader.positions[place] < end:
                self._catch_up(partition, end)
            if self._reader.positions[place] >= end:
                self._passed.pop(partition, None)
                self._blocked.free(self._topic, partition)

    def _catch_up(self, partition: int, end: int) -> None:
        stable = self._stable(partition)
        heard, quiet = -1, time.monotonic()
        while (at := self._reader.positions[self._topic, partition]) < end:
            if at >= stable:
                if self._passed.get(partition) == at:
                    self._blocked.at(self._topic, partition, at)
                    return
                if self._blocked.at(self._topic, partition, at) >= ENDING_S:
                    stable = self._stable(partition)
                    if at >= stable and not self._is_being_compacted(partition, stable):
                        self._passed[partition] = at
                        return
            if self._stopped():
                raise StoppedError(f"the reading of topic {self._topic} was stopped")
            if at != heard:
                heard, quiet = at, time.monotonic()
            elif time.monotonic() - quiet > QUIET_S:  # a consumer whose broker has gone just hears nothing
                self._group.ends(self._topic, partition, ASK_S)
                quiet = time.monotonic()
            self._read()

    def _stable(self, partition: int) -> int:
        """The last stable offset: what a consumer of committed records is told as the end."""
        reader = self._reader.consumer
        return answer(self._config, lambda: edges(reader, self._config, self._topic, partition, ASK_S), ASK_S).end

    def _is_being_compacted(self, partition: int, stable: int) -> bool:
        """Whether the open transaction is a compaction's: its first record is the one at the last stable offset."""
        if not isinstance(self._view, CompactedView):
            return False
        if self._first_of_open[0] != (partition, stable):
            reader = consumer(self._config, None, **{"isolation.level": "read_uncommitted"})
            try:
                reader.assign([TopicPartition(self._config.topic(self._topic), partition, stable)])
                found: Any = reader.poll(ASK_S)
            finally:
                reader.close()
            if found is None or found.error() is not None:
                return True  # not known yet: asked again
            is_ours = found.offset() == stable and (COMPACTED, b"%d" % stable) in (found.headers() or ())
            self._first_of_open = (partition, stable), is_ours
        return self._first_of_open[1]

    def _read(self) -> None:
        try:
            read: Any = self._reader.read(10_000, 0.01)
        except OffsetLostError as e:
            if e.partition is None or not self._is_compacted(e.partition):
                raise
            log.info("view.compacted_meanwhile", topic=self._topic, read_to=self._reader.positions)
            self._from_the_beginning()
            return
        for records in read.values():
            self._view.apply(records)

    def _from_the_beginning(self) -> None:
        self._reader.assign(dict.fromkeys(self._places, OFFSET_BEGINNING))

    def _is_compacted(self, place: PartitionId) -> bool:
        """Whether what could not be read any more stands in later records: then the topic has not become shorter."""
        end = self._group.ends(place[0], place[1], ASK_S).end
        return isinstance(self._view, CompactedView) and end >= self._reader.positions[place]
