"""Topic `broadcast` as a broadcaster reads it: the live end in a thread of its own, and older records on demand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from confluent_kafka import Message

from weir.consumers.broadcast.replay_buffer import Entry, ReplayBuffer, SubscriptionFilter
from weir.infra import log
from weir.infra.config import Config
from weir.infra.errors import KafkaUnavailableError, OffsetLostError, RetryableError
from weir.infra.kafka.partition_reader import OffsetRange, PartitionOffsets, PartitionReader
from weir.infra.runtime.threads import ReadingThread
from weir.schemas.broadcast import BINARY, FRAME_HEADER
from weir.schemas.topic import PartitionId
from weir.schemas.topics import BROADCAST

#: How long Kafka has for an answer, in seconds.
_PATIENCE = 5.0
_POLL = 0.1
#: Records read at once at most; bytes handed over at once, about.
_MOST = 2_000
_BATCH = 64 << 10
#: Of each partition, so many of the latest records are read into memory first, for so many seconds at most.
_BACKLOG = 10_000
_WARM_UP = 3.0
#: How many records of a partition are looked through for the last messages of a channel.
_SCAN = 100_000
_CHUNK = 2 << 20

_log = log.get_logger("broadcaster")

Edges = dict[int, OffsetRange]


@dataclass
class EntryBatch:
    """Entries that were read, in order; `restarts` has the new offsets of partitions that lost records."""

    entries: list[Entry] = field(default_factory=list)
    restarts: dict[int, int] = field(default_factory=dict)


def decode(message: Message) -> Entry:
    """A record as a message. A text that is not UTF-8, which only other Kafka clients write, is sent as binary."""
    headers = dict(cast(list[tuple[str, Any]], message.headers() or ()))
    data = message.value() or b""
    binary = headers.get(FRAME_HEADER) == BINARY or not _is_text(data)
    key = message.key()
    return Entry(
        cast(int, message.partition()),
        cast(int, message.offset()),
        None if key is None else key.decode(errors="replace"),
        data,
        binary,
        message.timestamp()[1],
    )


def _is_text(data: Any) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class _Reader:
    """Reads the topic's partitions, and where it is in each."""

    def __init__(self, config: Config, kilobytes: int, wait_ms: int = 500) -> None:
        self._offsets = PartitionOffsets(config, _PATIENCE)
        settings = {"queued.max.messages.kbytes": kilobytes, "fetch.wait.max.ms": wait_ms}
        self._reader = PartitionReader(config, None, settings, _warn)

    @property
    def positions(self) -> dict[int, int]:
        return {p: offset for (_, p), offset in self._reader.positions.items()}

    @property
    def is_at_end(self) -> bool:
        return len(self._reader.ended) == len(self._reader.positions)

    def edges(self) -> Edges:
        """The first offset and the end of every partition. Blocks; raises KafkaUnavailableError."""
        return {p: edges for (_, p), edges in self._offsets.edges([BROADCAST.name]).items()}

    def assign(self, positions: Mapping[int, int]) -> None:
        """Reads from these offsets on, these partitions alone."""
        self._reader.assign({(BROADCAST.name, p): offset for p, offset in positions.items()})

    def read(self, timeout: float) -> list[Entry]:
        """Reads the entries that arrive within `timeout` seconds, and returns as soon as there are some. Raises
        OffsetLostError where records were deleted before they were read, and WeirError."""
        read = self._reader.read(_MOST, timeout)
        return [decode(record) for records in read.values() for record in records]

    def close(self) -> None:
        self._reader.close()


def _warn(_: PartitionId, problem: RetryableError) -> None:
    """Logs that a topic is being made again, or a broker is away: librdkafka goes on by itself."""
    _log.warning("broadcaster.kafka", error=str(problem))


class LiveReader(ReadingThread[EntryBatch]):
    """Reads the end of the topic, from where the warming up ended, and hands batches to `deliver`."""

    def __init__(
        self, config: Config, deliver: Callable[[EntryBatch], None], failed: Callable[[Exception], None]
    ) -> None:
        super().__init__("broadcast-reader", self._batches(), deliver, failed)
        self._reader = _Reader(config, 16 << 10)
        self._limit = config.broadcast.memory

    def warm_up(self) -> tuple[dict[int, int], list[Entry], Edges]:
        """Reads the latest records, for those who will resume; from which offsets on, what, and the topic's edges.

        Keeps no more of them than the memory takes. Blocks for a few seconds at most. Raises KafkaUnavailableError.
        """
        edges = self._reader.edges()
        start = {p: max(low, high - _BACKLOG) for p, (low, high) in edges.items()}
        self._reader.assign(start)
        latest = ReplayBuffer(start, self._limit)
        deadline = time.monotonic() + _WARM_UP
        while not self._reader.is_at_end:
            if time.monotonic() > deadline:
                _log.info("broadcaster.memory_not_filled", seconds=_WARM_UP)
                start = {p: high for p, (_, high) in self._reader.edges().items()}
                self._reader.assign(start)
                return start, [], edges
            try:
                latest.append(self._reader.read(_POLL))
            except OffsetLostError:  # trimmed at this moment
                return self.warm_up()
        return dict(latest.first), by_time(latest.after(latest.first)), edges

    def _batches(self) -> Generator[EntryBatch | None, None, None]:
        try:
            while True:
                try:
                    read = self._reader.read(_POLL)
                except OffsetLostError as e:
                    yield from self._restart(e)
                else:
                    yield from map(EntryBatch, portions(read, _BATCH))
                    yield None
        finally:
            self._reader.close()

    def _restart(self, lost: OffsetLostError) -> Generator[EntryBatch | None, None, None]:
        """Goes on at the earliest record there is, in the partition where records were deleted."""
        assert lost.partition is not None
        partition, positions = lost.partition[1], self._reader.positions
        while True:
            try:
                first = self._reader.edges()[partition].first
                break
            except KafkaUnavailableError as e:
                _log.warning("broadcaster.kafka", error=str(e))
                time.sleep(_POLL)
                yield None
        _log.error("broadcaster.records_lost", partition=partition, first=first, wanted=positions[partition])
        self._reader.assign(positions | {partition: first})
        yield EntryBatch(restarts={partition: first})


class History:
    """Reads what is older than the memory. Blocks; from any thread, and one call waits for another."""

    def __init__(self, config: Config) -> None:
        # It goes from place to place, and each time waits for the fetch that is under way.
        self._reader = _Reader(config, 8 << 10, wait_ms=10)
        self._lock = threading.RLock()

    def edges(self) -> Edges:
        """The first offset and the end of every partition. Raises KafkaUnavailableError."""
        with self._lock:
            return self._reader.edges()

    def read(
        self, position: Mapping[int, int], until: Mapping[int, int], most: int
    ) -> tuple[list[Entry], dict[int, int]]:
        """About `most` bytes from `position` on, and the position then: in each partition up to `until` or beyond.

        Raises KafkaUnavailableError, and OffsetLostError where records are deleted meanwhile.
        """
        with self._lock:
            return self._read(position, until, most)

    def _read(
        self, position: Mapping[int, int], until: Mapping[int, int], most: int
    ) -> tuple[list[Entry], dict[int, int]]:
        if self._reader.positions != position:
            self._reader.assign(position)
        entries: list[Entry] = []
        size = 0
        deadline = time.monotonic() + _PATIENCE
        while size < most and any(at < until.get(p, 0) for p, at in self._reader.positions.items()):
            try:
                read = self._reader.read(_POLL)
            except OffsetLostError:
                self.rest()
                raise
            if read:
                entries += read
                size += sum(len(entry.data) for entry in read)
                deadline = time.monotonic() + _PATIENCE
            elif time.monotonic() > deadline:
                self.rest()
                raise KafkaUnavailableError("Kafka does not deliver records that it has")
        return entries, dict(self._reader.positions)

    def latest(
        self, filter_: SubscriptionFilter, count: int, before: Mapping[int, int], low: Mapping[int, int]
    ) -> dict[int, int]:
        """The position from which on the last `count` messages of the filter before `before` come; the earliest looked
        at where there are fewer among the last `_SCAN` records of each partition. Raises as `read`."""
        back = max(4 * count, 1_000)
        while True:
            start = {p: max(low[p], end - back) for p, end in before.items()}
            found: list[tuple[int, int, int]] = []
            position = start
            while any(position[p] < end for p, end in before.items()):
                entries, position = self.read(position, before, _CHUNK)
                found += [
                    (entry.partition, entry.offset, entry.timestamp)
                    for entry in entries
                    if entry.offset < before[entry.partition] and filter_.channel in (None, entry.channel)
                ]
            if len(found) >= count or back >= _SCAN or start == {p: low[p] for p in before}:
                return suffixes(found, count, before)
            back = min(4 * back, _SCAN)

    def rest(self) -> None:
        """Fetches nothing more until the next read."""
        with self._lock:
            self._reader.assign({})

    def close(self, seconds: float = 0.5) -> None:
        """Ends the consumer, unless a call that still runs keeps it for longer than that."""
        if self._lock.acquire(timeout=seconds):
            self._reader.close()


def portions(entries: list[Entry], most: int) -> Iterator[list[Entry]]:
    """The entries in parts of about `most` bytes: each write takes one, and its size is what a queue has to hold."""
    part: list[Entry] = []
    size = 0
    for entry in entries:
        part.append(entry)
        size += len(entry.data)
        if size >= most:
            yield part
            part, size = [], 0
    if part:
        yield part


def by_time(entries: Iterable[Entry]) -> list[Entry]:
    """The entries, partition after partition as Kafka gives them, as they came in time. Within a partition their order
    stays, whatever the timestamps are.

    >>> read = [Entry(p, o, None, b"", False, time) for p, o, time in ((0, 8, 7), (0, 9, 5), (1, 3, 6))]
    >>> [entry.offset for entry in by_time(read)]
    [3, 8, 9]
    """
    held = list(entries)
    latest: dict[int, int] = {}
    times = []
    for entry in held:
        latest[entry.partition] = max(latest.get(entry.partition, entry.timestamp), entry.timestamp)
        times.append(latest[entry.partition])
    return [held[at] for at in sorted(range(len(held)), key=times.__getitem__)]


def suffixes(found: Iterable[tuple[int, int, int]], count: int, ends: Mapping[int, int]) -> dict[int, int]:
    """Of messages as (partition, offset, timestamp), the position from which on there are the latest `count`.

    >>> suffixes([(0, 1, 10), (0, 2, 30), (1, 5, 20)], 2, {0: 9, 1: 9})
    {0: 2, 1: 5}
    """
    start = dict(ends)
    by_partition: dict[int, list[tuple[int, int]]] = {}
    for partition, offset, timestamp in sorted(found):
        by_partition.setdefault(partition, []).append((timestamp, offset))
    for _ in range(count):
        if not by_partition:
            break
        # The latest at the end of any partition: so what is chosen of each is its end, whatever the timestamps are.
        partition = max(by_partition, key=lambda p: by_partition[p][-1][0])
        start[partition] = by_partition[partition].pop()[1]
        if not by_partition[partition]:
            del by_partition[partition]
    return start
